"""Runner of cases: each answer compared with what is expected, and the coverage of the hooks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any, NamedTuple

from pexpolicy.audit.redaction import REMOVED, Redaction, redact_annotations
from pexpolicy.endpoints.base import JPEG, Reply
from pexpolicy.explain.explanation import explain
from pexpolicy.explain.request_forms import InvalidRequestError, RecordedRequest, read_request
from pexpolicy.models.context import at_time
from pexpolicy.models.difference import NOTHING, Difference, one_line, unmet
from pexpolicy.models.outcome import DEFAULT, Outcome
from pexpolicy.models.request import alias_of
from pexpolicy.policy import Answer, Policy
from pexpolicy.testing.cases import Case, Expected, NamedCase
from pexpolicy.testing.coverage import Coverage
from pexpolicy.testing.report import Row
from pexpolicy.testing.requests import endpoint_of
from pexpolicy.text import did_you_mean


def case_row(
    case: NamedCase,
    differences: Sequence[Difference],
    seconds: float,
    *,
    kind: str,
    remark: str,
    lines: Iterable[str],
    facts: Mapping[str, Any],
) -> Row:
    """Return the result of a case: its differences, and ``lines`` and ``facts`` about it."""
    width = max((len(one.key) for one in differences), default=0)
    shown = [
        line
        for key, expected, got in differences
        for line in (f"{key:<{width}}  expected {expected}", f"{'':<{width}}  got      {got}")
    ]
    keys = [difference.key for difference in differences]
    return Row(
        str(case.path),
        case.name,
        ok=not differences,
        text=f"not as expected: {', '.join(keys)}" if differences else remark,
        lines=[*shown, *lines] if differences else (),
        seconds=seconds,
        kind=kind,
        facts={"differences": [one._asdict() for one in differences], **facts},
    )


async def judge(policy: Policy, case: Case) -> tuple[Row, Outcome | None]:
    """Ask a serving policy and compare; neither observers nor shadow plugins are called.

    The outcome is ``None`` for a URL that is not a request. Raise ``TypeError`` for a case with a
    time if the policy was built without a ``DryRunClock``.
    """
    began = time.perf_counter()
    outcome = None
    try:
        with at_time(policy.context.wall_clock, case.at):
            answer = await _answer(policy, case)
    except InvalidRequestError as error:
        differences = [Difference("url", "a request of Infinity", " ".join(str(error).split()))]
    else:
        outcome = answer.outcome
        differences = [*_differences(policy, case.expected, answer)]
    seconds = time.perf_counter() - began
    row = case_row(
        case,
        differences,
        seconds,
        kind=outcome.endpoint if outcome else "url",
        remark=outcome.decided_by if outcome else "",
        lines=_lines(outcome) if outcome else (),
        facts=_facts(outcome, seconds),
    )
    return row, outcome


def _lines(outcome: Outcome) -> Iterator[str]:
    endpoint = outcome.endpoint
    yield f"steps ({endpoint}):" if outcome.steps else f"{endpoint} asks no plugin"
    for step in outcome.steps:
        detail = step.detail or ", ".join(step.changes or step.fields)
        text = f"  {step.plugin} {step.outcome} after {step.ms:.1f} ms"
        yield f"{text}: {detail}" if detail else text
    yield from (f"warning: {warning}" for warning in outcome.decision.warnings)


def _facts(outcome: Outcome | None, seconds: float) -> dict[str, Any]:
    return {
        "endpoint": outcome.endpoint if outcome else "",
        "decided_by": outcome.decided_by if outcome else None,
        "ms": round(seconds * 1000, 3),
        "steps": [
            {
                **{key: getattr(step, key) for key in ("plugin", "outcome", "detail", "hook")},
                "ms": round(step.ms, 3),
                "fields": list(step.changes or step.fields),
            }
            for step in (outcome.steps if outcome else ())
        ],
        "warnings": list(outcome.decision.warnings) if outcome else [],
    }


async def _answer(policy: Policy, case: Case) -> Answer:
    if (made := case.request) is not None:
        # The node of a template may be one of another platform.
        asked, assumed = (alias_of(made), made.params), frozenset(("node_ip",))
        recorded = RecordedRequest(endpoint_of(made), *asked, assumed=assumed)
    else:
        recorded = read_request(case.url or "")
    if recorded.peer is None or case.peer is not None:
        recorded = replace(recorded, peer=case.peer)
    return (await explain(policy, replace(recorded, environment=case.environment))).answer


def _differences(policy: Policy, expected: Expected, answer: Answer) -> Iterator[Difference]:
    outcome, reply = answer.outcome, answer.reply
    chain = policy.chains[outcome.endpoint]
    usual = chain.endpoint.reply(chain.default, "", DEFAULT)
    decided_by = expected.decided_by
    is_usual = expected.action in (None, usual.action) and expected.status in (None, usual.status)
    # Else a plugin must decide.
    if decided_by is None and is_usual and not expected.result and not expected.reason:
        decided_by = DEFAULT
    if decided_by not in (None, outcome.decided_by):
        names = [DEFAULT, *(plugin.name for plugin in policy.plugins)]
        unknown = f" (no plugin of that name{did_you_mean(decided_by, names)})"
        reason = outcome.decision.reason
        got = f"{outcome.decided_by} ({reason})" if reason else outcome.decided_by
        yield Difference("decided_by", decided_by + unknown * (decided_by not in names), got)
    steps: dict[str, str] = {}
    for step in outcome.steps:
        steps.setdefault(step.plugin, step.outcome)
        steps[f"{step.plugin}.{step.hook or outcome.endpoint}"] = step.outcome
    compared: list[tuple[str, object, object]] = [
        ("action", expected.action or usual.action, reply.action),
        ("status", expected.status, reply.status),
        ("reason", expected.reason, outcome.decision.reason),
    ]
    for plugin, what in (expected.steps or {}).items():
        compared.append((f"steps.{plugin}", what, steps.get(plugin, "not asked")))
    for key, wanted, found in compared:
        if wanted not in (None, found):
            yield Difference(key, str(wanted), NOTHING if found is None else str(found))
    removed = Redaction().result(outcome.endpoint, outcome.decision)[1]
    result = _result(reply)
    if expected.result is not None and not (result is None and not expected.result):
        yield from _below("result", expected.result, result, removed)
    if expected.annotations:
        annotations, _ = redact_annotations(outcome.request, Redaction())
        yield from _below("annotations", expected.annotations, annotations, [])


def _result(reply: Reply) -> Any:
    """Return the result that Infinity would read; for a picture, its type and size."""
    if reply.content_type != JPEG:
        return json.loads(reply.body).get("result")
    from PIL import Image  # noqa: PLC0415 - 40 ms of import that only avatars need

    with Image.open(BytesIO(reply.body)) as picture:
        return {"content_type": JPEG, "width": picture.width, "height": picture.height}


def _below(key: str, expected: Any, got: Any, removed: list[str]) -> Iterator[Difference]:
    """Yield the differences; of the fields in ``removed``, those of the reply are not shown."""

    def shown_got(name: str, value: Any) -> str:
        return REMOVED if name in removed else one_line(value, removed, REMOVED)

    return unmet(key, expected, got, lambda _, value: one_line(value), shown_got)


class Run(NamedTuple):
    """The results of all cases, in their order, and the coverage."""

    rows: list[Row]
    coverage: Coverage
    seconds: float


async def run_cases(policy: Policy, cases: Iterable[Case]) -> Run:
    """Open a policy and ask it all cases, one after the other."""
    began = time.perf_counter()
    async with policy.serving():
        coverage = Coverage(policy)
        rows = []
        for case in cases:
            row, outcome = await judge(policy, case)
            rows.append(row)
            if outcome is not None:
                with at_time(policy.context.wall_clock, case.at):
                    coverage.add(outcome)
    return Run(rows, coverage, time.perf_counter() - began)
