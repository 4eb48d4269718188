"""Cases for scripts: variables, what Infinity should make of the output, and the differences."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pexpolicy.config.problems import dotted_key
from pexpolicy.config.toml_tables import validated
from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.explain.explanation import LocalPolicyError
from pexpolicy.models.difference import NOTHING, Difference, one_line, unmet
from pexpolicy.testing.cases import BadCaseError, NamedCase, read_cases
from pexpolicy.testing.report import Row
from pexpolicy.testing.runner import case_row
from pexpolicy_local_policy.node_policy import told_kind
from pexpolicy_local_policy.script_process import Job, Rendering, ScriptPool
from pexpolicy_local_policy.variables import (
    VARIABLES,
    Kind,
    ScriptInput,
    given_input,
    read_moment,
    read_text,
    recorded_input,
)
from pexpolicy_local_policy.verdict import HIDDEN, Verdict, given_secrets, judge, without

_TOP = ("case", "kind", "script")
_NAMES = tuple(dict.fromkeys(name for names in VARIABLES.values() for name in names))


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Expected(_Table):
    """What is expected; a key that is left out may be anything."""

    action: Literal["continue", "reject", "redirect"] | None = None
    result: dict[str, Any] | None = None
    """Fields of the result; others may have any value."""
    changed: list[str] | None = None
    """The names of all fields that differ from those before the script."""
    dropped: bool | str = False
    """True where Infinity should drop the output; a text is a part of the reason."""
    debug: list[str] | None = None
    """The lines of pex_debug_log."""


class _CaseTable(_Table):
    name: str = Field(min_length=1)
    script: str | None = None
    kind: Kind | None = None
    at: datetime | date | str | None = None
    input: str | None = None
    request: str | None = None
    call_info: dict[str, Any] | None = None
    service_config: dict[str, Any] | None = None
    participant: dict[str, Any] | None = None
    suggested_media_overflow_locations: dict[str, Any] | None = None
    expect: Expected = Expected()


@dataclass(frozen=True, slots=True)
class ScriptCase(NamedCase):
    """One run of a script, and what is expected of it."""

    script: Path
    source: str
    given: ScriptInput
    expected: Expected
    at: float | None = None
    """The time of ``pex_now`` in seconds since 1970; ``None`` for the present."""


def load_script_cases(path: Path) -> list[ScriptCase]:
    """Return the cases of a TOML file, in their order.

    Raises ``CasesError`` with all problems.
    """

    def make(document: Mapping[str, Any], table: Mapping[str, Any]) -> ScriptCase:
        read, issues = validated(table, _CaseTable, {})
        if read is None or issues:
            raise BadCaseError(*(f"{dotted_key(issue.key)}: {issue.text}" for issue in issues))
        try:
            return _case(path, document, read)
        except LocalPolicyError as error:
            raise BadCaseError(error) from None

    return read_cases(path, make, _TOP)


def _case(path: Path, document: Mapping[str, Any], table: _CaseTable) -> ScriptCase:
    written = table.script or document.get("script")
    if not isinstance(written, str):
        raise LocalPolicyError("script: is missing; name it here, or above all cases")
    script = path.parent / written
    source = read_text(script)
    kind = table.kind or document.get("kind") or _kind(table, source)
    if kind not in tuple(VARIABLES):  # a list has no hash
        raise LocalPolicyError(f"kind: is not one of {', '.join(VARIABLES)}")
    written = {name: value for name in _NAMES if (value := getattr(table, name)) is not None}
    input_file = None if table.input is None else path.parent / table.input
    given, at = given_input(kind, input_file, table.request, written)
    if table.at is not None:
        at = read_moment(str(table.at))
    seconds = None if at is None else at.timestamp()
    return ScriptCase(table.name, path, script, source, given, table.expect, seconds)


def _kind(table: _CaseTable, source: str) -> Kind:
    if table.request is not None:
        return recorded_input(table.request, None)[0].kind
    if table.participant is not None:
        return "participant"
    if table.suggested_media_overflow_locations is not None:
        return "media_location"
    return told_kind(source)


async def run_case(pool: ScriptPool, case: ScriptCase) -> Row:
    """Run the script of a case and compare."""
    began = time.perf_counter()
    rendering = await pool.run(Job(case.source, case.given.variables, case.at))
    seconds = time.perf_counter() - began
    verdict = judge(case.given, rendering)
    secrets = given_secrets(case.given)
    summary = without(verdict.summary, secrets)
    debug = [without(line, secrets) for line in rendering.debug]
    return case_row(
        case,
        [*_differences(case, verdict, rendering)],
        seconds,
        kind=case.script.name,
        remark=summary.partition(". ")[0],
        lines=[
            f"verdict: {summary}",
            *(f"pex_debug_log: {line}" for line in debug),
            *(f"warning: {text}" for text in verdict.warnings),
        ],
        facts={
            "script": str(case.script),
            "kind": case.given.kind,
            "verdict": summary,
            "debug": debug,
            "warnings": list(verdict.warnings),
        },
    )


def _differences(case: ScriptCase, verdict: Verdict, rendering: Rendering) -> Iterator[Difference]:
    expected, secrets = case.expected, given_secrets(case.given)
    if expected.dropped is False:
        if verdict.dropped:
            yield Difference("dropped", "false", without(verdict.dropped, secrets))
            return
    elif not verdict.dropped:
        yield Difference("dropped", "true", "false")
    elif isinstance(expected.dropped, str) and expected.dropped not in verdict.dropped:
        yield Difference("dropped", expected.dropped, without(verdict.dropped, secrets))
    if expected.action not in (None, verdict.action or "continue"):
        yield Difference("action", str(expected.action), verdict.action or "continue")
    if expected.result is not None:
        yield from unmet("result", expected.result, verdict.result, _shown, _shown)
    if expected.changed is not None and sorted(expected.changed) != sorted(verdict.changed):
        wanted, found = (", ".join(sorted(names)) for names in (expected.changed, verdict.changed))
        yield Difference("changed", wanted or NOTHING, found or NOTHING)
    if expected.debug is not None and expected.debug != list(rendering.debug):
        logged = without(" / ".join(rendering.debug), secrets)
        yield Difference("debug", " / ".join(expected.debug) or NOTHING, logged or NOTHING)


def _shown(name: str, value: Any) -> str:
    return HIDDEN if name in PROTECTIONS and value else one_line(value, PROTECTIONS, HIDDEN)
