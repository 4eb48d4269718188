"""Cases: their files, and the answers to their requests compared with what is expected."""

from __future__ import annotations

import json
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import click
import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pexpolicy.audit.redaction import REMOVED, Redaction, redact_annotations
from pexpolicy.config.problems import Problem, problems_of
from pexpolicy.endpoints.base import JPEG, Reply
from pexpolicy.explain.explanation import explain
from pexpolicy.explain.request_forms import (
    InvalidRequestError,
    RecordedRequest,
    parse_moment,
    read_request,
)
from pexpolicy.models.context import at_time
from pexpolicy.models.difference import NOTHING, Difference, one_line, unmet
from pexpolicy.models.outcome import DEFAULT, Outcome
from pexpolicy.models.request import Request, alias_of
from pexpolicy.policy import Answer, Policy
from pexpolicy.testing.coverage import Coverage
from pexpolicy.testing.report import Row
from pexpolicy.testing.requests import RequestError, composed, endpoint_of
from pexpolicy.text import brief, did_you_mean, printable

Values = dict[str, Any]
"""Values of JSON by name."""
EX_USAGE = 2


@dataclass(frozen=True, slots=True)
class NamedCase:
    """A case, its name in reports, and the file that it is in."""

    name: str
    path: Path

    def __str__(self) -> str:
        return self.name


C = TypeVar("C", bound=NamedCase)


class CasesError(Exception):
    """A case file that cannot be used; ``problems`` has case and key of each error."""

    def __init__(self, path: Path, problems: Iterable[str]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{path}: {problem}" for problem in self.problems))


class BadCaseError(Exception):
    """A case that cannot be used; ``args`` are its problems, each of which begins with its key."""


def read_cases(
    path: Path, make: Callable[[Values, Values], C], keys: Sequence[str] = ("case",)
) -> list[C]:
    """Return what ``make`` makes of a TOML file and each of its cases, in their order.

    ``make`` raises ``BadCaseError``; ``keys`` are those above all cases. Raise ``CasesError`` with
    all problems.
    """
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise CasesError(path, [f"cannot be read: {error.strerror}"]) from None
    except (ValueError, RecursionError) as error:
        raise CasesError(path, [f"is not valid TOML: {error}"]) from None
    problems = [
        f"{key}: unknown key{did_you_mean(key, keys)}; cases are written as [[case]]"
        for key in document
        if key not in keys
    ]
    tables = document.get("case", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise CasesError(path, [*problems, "case: write [[case]], with two brackets"])
    cases: dict[str, C] = {}
    for number, table in enumerate(tables, 1):
        try:
            case = make(document, table)
        except BadCaseError as error:
            label = f"case {number}"
            if "name" in table:
                label += f" ({brief(table['name'])})"
            problems += [f"{label}, {problem}" for problem in error.args]
            continue
        if case.name in cases:
            told = f"two cases have the name {brief(case.name)}: a report could not tell them apart"
            problems.append(told)
        cases[case.name] = case
    if problems:
        raise CasesError(path, problems)
    return list(cases.values())


def chosen_or_exit(
    paths: Iterable[Path], load: Callable[[Path], Iterable[C]], only: str
) -> list[C]:
    """Return the cases of all files whose names contain ``only``, in any case.

    Print the problems of each file, and exit with 2, also without any case.
    """
    cases: list[C] = []
    problems: list[str] = []
    for path in paths:
        try:
            cases += load(path)
        except CasesError as error:
            problems += str(error).splitlines()
    chosen = [case for case in cases if only.casefold() in case.name.casefold()]
    if not chosen and not problems:
        problems = [f"no case ran: of {len(cases)} in the files, none has {only!r} in its name"]
    for problem in problems:
        click.secho(printable(problem), fg="red", err=True)
    if problems:
        sys.exit(EX_USAGE)
    return chosen


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Expected(_Table):
    """Expected outcome; a key that is left out is expected to be that of the default.

    Without any key, no plugin is expected to decide. If one is, ``result`` and ``status`` are
    compared only where they are set.
    """

    action: Literal["continue", "reject", "redirect"] | None = None
    decided_by: str | None = Field(None, min_length=1)
    """The name of a plugin, or ``default``."""
    status: int | None = None
    """The HTTP status."""
    result: Values | list[Any] | None = None
    """Fields of the result; others may have any value."""
    reason: str | None = None
    steps: dict[str, str] | None = None
    """Outcome of the first step of a plugin, by its name, or of one hook, by ``plugin.hook``."""
    annotations: dict[str, Values] | None = None
    """Values that a plugin adds to the audit line, by its name; others may have any value."""


class CaseTable(_Table):
    """A case as it is written."""

    name: str = Field(min_length=1)
    endpoint: str | None = None
    shape: str | None = None
    request: Values | None = None
    url: str | None = None
    at: Annotated[datetime, BeforeValidator(lambda written: parse_moment(str(written)))] | None = (
        None
    )
    """The time of conditions on the time; ``None`` for the present. With a zone: on another
    machine, another time would be meant without it.
    """
    peer: str | None = None
    """The address of the client; it is that of ``request`` as well."""
    environment: str | None = None
    """The platform that asks; by default that of the peer."""
    expect: Expected = Expected()


@dataclass(frozen=True, slots=True)
class Case(NamedCase):
    """One request and its expected outcome."""

    written: CaseTable
    request: Request | None
    """``None`` where a ``url`` is written."""


def load_cases(path: Path | str) -> list[Case]:
    """Return the cases of a TOML file, in their order.

    Raises ``CasesError`` with all problems::

        for case in load_cases("cases.toml"):
            assert_case(Doors, case)
    """
    path = Path(path)
    return read_cases(path, lambda _, table: _case(path, table))


def _case(path: Path, table: Values) -> Case:
    try:
        read = CaseTable.model_validate(table)
    except pydantic.ValidationError as error:
        raise BadCaseError(*problems_of(error, CaseTable)) from None
    request = None
    if read.url is not None:
        given = [one for one in ("endpoint", "shape", "request") if getattr(read, one) is not None]
        if given:
            text = "leave it out: the url contains it"
            raise BadCaseError(*(Problem((name,), text) for name in given))
    elif read.endpoint is None:
        raise BadCaseError(Problem(("endpoint",), "is missing; without it, write a whole url"))
    else:
        try:
            request = composed(read.endpoint, read.shape, read.request or {})
        except RequestError as error:
            inside = () if error.key in ("endpoint", "shape") else ("request",)
            raise BadCaseError(Problem((*inside, error.key), error.text)) from None
    return Case(read.name, path, read, request)


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


async def judge(policy: Policy, case: Case, coverage: Coverage | None = None) -> Row:
    """Ask a serving policy, count in a coverage, and compare.

    Neither observers nor shadow plugins are called. Raise ``TypeError`` for a case with a
    time if the policy was built without a ``DryRunClock``.
    """
    began = time.perf_counter()
    outcome = None
    try:
        with at_time(policy.context.wall_clock, case.written.at):
            answer = await _answer(policy, case)
            if coverage is not None:
                coverage.add(answer.outcome)
    except InvalidRequestError as error:
        differences = [Difference("url", "a request of Infinity", " ".join(str(error).split()))]
    else:
        outcome = answer.outcome
        differences = [*_differences(policy, case.written.expect, answer)]
    seconds = time.perf_counter() - began
    return case_row(
        case,
        differences,
        seconds,
        kind=outcome.endpoint if outcome else "url",
        remark=outcome.decided_by if outcome else "",
        lines=_lines(outcome) if outcome else (),
        facts=_facts(outcome, seconds),
    )


def _lines(outcome: Outcome) -> Iterator[str]:
    endpoint = outcome.endpoint
    yield f"steps ({endpoint}):" if outcome.steps else f"{endpoint} asks no plugin"
    for step in outcome.steps:
        detail = step.detail or ", ".join(step.changes or step.fields)
        text = f"  {step.plugin} {step.outcome} after {step.ms:.1f} ms"
        yield f"{text}: {detail}" if detail else text
    yield from (f"warning: {warning}" for warning in outcome.decision.warnings)


def _facts(outcome: Outcome | None, seconds: float) -> Values:
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
        recorded = read_request(case.written.url or "")
    peer, environment = case.written.peer or recorded.peer, case.written.environment
    return (await explain(policy, replace(recorded, peer=peer, environment=environment))).answer


def _differences(policy: Policy, expected: Expected, answer: Answer) -> Iterator[Difference]:
    outcome, reply = answer.outcome, answer.reply
    chain = policy.chains[outcome.endpoint]
    usual = chain.endpoint.reply(chain.default, "", DEFAULT)
    wanted = {"action": usual.action, **expected.model_dump(exclude_none=True)}
    is_usual = wanted["action"] == usual.action and expected.status in (None, usual.status)
    if is_usual and not expected.result and not expected.reason:  # else a plugin must decide
        wanted.setdefault("decided_by", DEFAULT)
    steps = dict.fromkeys(wanted.get("steps", ()), "not asked")
    for step in reversed(outcome.steps):
        steps[step.plugin] = step.outcome
        steps[f"{step.plugin}.{step.hook or outcome.endpoint}"] = step.outcome
    got = {
        "decided_by": outcome.decided_by,
        "action": reply.action,
        "status": reply.status,
        "reason": outcome.decision.reason,
        "steps": steps,
    }
    for key, value in got.items():
        if key in wanted:
            yield from unmet(key, wanted[key], value, _plain, _plain)
    result = _result(reply)
    if expected.result is not None and (result or expected.result):
        removed = Redaction().result(outcome.endpoint, outcome.decision)[1]
        yield from _below("result", expected.result, result, removed)
    if expected.annotations:
        annotations, _ = redact_annotations(outcome.request, Redaction())
        yield from _below("annotations", expected.annotations, annotations, [])


def _plain(_: str, value: object) -> str:
    return NOTHING if value is None else str(value)


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
        rows = [await judge(policy, case, coverage) for case in cases]
    return Run(rows, coverage, time.perf_counter() - began)
