"""Comparison of a policy's answer with the expected outcome of a case."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pexpolicy.audit.annotations import redact_annotations
from pexpolicy.audit.redaction import REMOVED, Redaction
from pexpolicy.endpoints.base import JPEG, Reply
from pexpolicy.explain.explanation import explain
from pexpolicy.explain.request_forms import InvalidRequestError, read_request
from pexpolicy.models.outcome import DEFAULT, Outcome, Step
from pexpolicy.models.wall_clock import at_time
from pexpolicy.policy import Answer, Policy
from pexpolicy.testing.ask import asked, capturing_audit_log
from pexpolicy.testing.case_results import NOTHING, Difference, Result, below, one_line
from pexpolicy.testing.cases import Case, Expected
from pexpolicy.text import did_you_mean


@dataclass(frozen=True, slots=True)
class CaseResult(Result):
    """The result of a request, and its outcome."""

    case: Case
    endpoint: str
    outcome: Outcome | None

    def lines(self) -> Iterator[str]:
        """Return the differences and each step as lines."""
        yield from Result.lines(self)
        if self.outcome is None:
            return
        yield (
            f"steps ({self.endpoint}):" if self.outcome.steps else f"{self.endpoint} asks no plugin"
        )
        for step in self.outcome.steps:
            yield f"  {_step(step)}"
        for warning in self.outcome.decision.warnings:
            yield f"warning: {warning}"

    def __str__(self) -> str:
        return "\n".join([self.case.name, *(f"  {line}" for line in self.lines())])


def _step(step: Step) -> str:
    text = f"{step.plugin} {step.outcome} after {step.ms:.1f} ms"
    detail = step.detail or ", ".join(step.changes or step.fields)
    return f"{text}: {detail}" if detail else text


async def judge(policy: Policy, case: Case) -> CaseResult:
    """Ask a serving policy and compare; neither observers nor shadow plugins are called.

    Raise ``TypeError`` for a case with a time if the policy was built without a ``DryRunClock``.
    """
    began = time.perf_counter()
    try:
        with at_time(policy.wall_clock, case.at):
            endpoint, answer = await _answer(policy, case)
    except InvalidRequestError as error:
        wrong = Difference("url", "a request of Infinity", " ".join(str(error).split()))
        return CaseResult(case, (wrong,), time.perf_counter() - began, "url", "", "", None)
    seconds = time.perf_counter() - began
    differences = tuple(_differences(policy, endpoint, case.expected, answer))
    outcome = answer.outcome
    by = outcome.decided_by
    return CaseResult(case, differences, seconds, endpoint, by, endpoint, outcome)


async def _answer(policy: Policy, case: Case) -> tuple[str, Answer]:
    if case.request is not None:
        answer = await asked(policy, case.request, capturing_audit_log(policy.settings))
        return answer.outcome.endpoint, answer
    recorded = read_request(case.url or "")
    if case.peer is not None:
        recorded = replace(recorded, peer=case.peer)
    explained = await explain(policy, recorded)
    return explained.endpoint, explained.answer


def _differences(
    policy: Policy, endpoint: str, expected: Expected, answer: Answer
) -> Iterator[Difference]:
    outcome, reply = answer.outcome, answer.reply
    chain = policy.chains[endpoint]
    usual = chain.endpoint.reply(chain.default, "", DEFAULT)
    decided_by = expected.decided_by
    if decided_by is None and not _is_a_decision(expected, usual):
        decided_by = DEFAULT
    if decided_by not in (None, outcome.decided_by):
        names = [DEFAULT, *(plugin.name for plugin in policy.plugins)]
        unknown = f" (no plugin of that name{did_you_mean(decided_by, names)})"
        text = decided_by + ("" if decided_by in names else unknown)
        yield Difference("decided_by", text, _decided_by(outcome))
    yield from _unequal("action", expected.action or usual.action, reply.action)
    yield from _unequal("status", expected.status, reply.status)
    yield from _unequal("reason", expected.reason, outcome.decision.reason)
    removed = Redaction().result(outcome.endpoint, outcome.decision)[1]
    got = _result(reply)
    if expected.result is not None and not (got is None and not expected.result):
        yield from _below("result", expected.result, got, removed)
    steps: dict[str, str] = {}
    for step in outcome.steps:
        steps.setdefault(step.plugin, step.outcome)
        steps[f"{step.plugin}.{step.hook or endpoint}"] = step.outcome
    for plugin, what in (expected.steps or {}).items():
        yield from _unequal(f"steps.{plugin}", what, steps.get(plugin, "not asked"))
    if expected.annotations:
        annotations, _ = redact_annotations(outcome.request, Redaction())
        yield from _below("annotations", expected.annotations, annotations, [])


def _is_a_decision(expected: Expected, usual: Reply) -> bool:
    """Return whether the expectation differs from the default, so that a plugin must decide."""
    return bool(
        expected.result
        or expected.reason
        or expected.action not in (None, usual.action)
        or expected.status not in (None, usual.status)
    )


def _decided_by(outcome: Outcome) -> str:
    reason = outcome.decision.reason
    return f"{outcome.decided_by} ({reason})" if reason else outcome.decided_by


def _unequal(key: str, expected: object, got: object) -> Iterator[Difference]:
    if expected is not None and expected != got:
        yield Difference(key, str(expected), NOTHING if got is None else str(got))


def _result(reply: Reply) -> Any:
    """Return the result that Infinity would read; for a picture, its type and size."""
    if reply.content_type == JPEG:
        return _picture(reply.body)
    return json.loads(reply.body).get("result")


def _picture(image: bytes) -> dict[str, Any]:
    from io import BytesIO  # noqa: PLC0415 - with what follows

    from PIL import Image  # noqa: PLC0415 - 40 ms of import that only avatars need

    with Image.open(BytesIO(image)) as picture:
        return {"content_type": JPEG, "width": picture.width, "height": picture.height}


def _below(key: str, expected: Any, got: Any, removed: list[str]) -> Iterator[Difference]:
    """Yield the differences; of the fields in ``removed``, those of the reply are not shown."""

    def shown_got(name: str, value: Any) -> str:
        return REMOVED if name in removed else one_line(value, removed, REMOVED)

    return below(key, expected, got, lambda _, value: one_line(value), shown_got)
