"""Results of cases for scripts: the differences from what is expected, and reports of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pexpolicy import PROTECTIONS
from pexpolicy.testing.case_results import NOTHING, Difference, Result, below, one_line
from pexpolicy.testing.report import about, totals
from pexpolicy_local_policy.script_cases import ScriptCase
from pexpolicy_local_policy.script_process import Job, Rendering, ScriptPool
from pexpolicy_local_policy.secrets import HIDDEN, given_secrets, without
from pexpolicy_local_policy.verdict import Verdict, judge


@dataclass(frozen=True, slots=True)
class ScriptCaseResult(Result):
    """The result of a script, and what Infinity makes of its output."""

    case: ScriptCase
    verdict: Verdict
    summary: str
    """The verdict in one line, without secrets."""
    debug: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Return the differences, the verdict, and what the script logged."""
        yield from Result.lines(self)
        yield f"verdict: {self.summary}"
        secrets = given_secrets(self.case.given)
        yield from (f"pex_debug_log: {without(line, secrets)}" for line in self.debug)
        yield from (f"warning: {text}" for text in self.verdict.warnings)


async def run_case(pool: ScriptPool, case: ScriptCase) -> ScriptCaseResult:
    """Run the script of a case and compare."""
    began = time.perf_counter()
    rendering = await pool.run(Job(case.source, case.given.variables, case.at))
    seconds = time.perf_counter() - began
    verdict = judge(case.given, rendering)
    differences = tuple(_differences(case, verdict, rendering))
    summary = without(verdict.summary, given_secrets(case.given))
    remark = summary.partition(". ")[0]
    return ScriptCaseResult(
        case, differences, seconds, case.script.name, remark, verdict, summary, rendering.debug
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
        yield from below("result", expected.result, verdict.result, _shown, _shown)
    if expected.changed is not None and sorted(expected.changed) != sorted(verdict.changed):
        wanted, found = (", ".join(sorted(names)) for names in (expected.changed, verdict.changed))
        yield Difference("changed", wanted or NOTHING, found or NOTHING)
    if expected.debug is not None and expected.debug != list(rendering.debug):
        logged = without(" / ".join(rendering.debug), secrets)
        yield Difference("debug", " / ".join(expected.debug) or NOTHING, logged or NOTHING)


def _shown(name: str, value: Any) -> str:
    return HIDDEN if name in PROTECTIONS and value else one_line(value, PROTECTIONS, HIDDEN)


def as_object(results: Sequence[ScriptCaseResult], seconds: float) -> dict[str, Any]:
    """Return the results as an object of JSON."""
    cases = [
        {
            **about(result),
            "script": str(result.case.script),
            "kind": result.case.given.kind,
            "verdict": result.summary,
            "debug": [without(line, given_secrets(result.case.given)) for line in result.debug],
            "warnings": list(result.verdict.warnings),
        }
        for result in results
    ]
    return {**totals(results, seconds), "cases": cases}
