"""Results of cases for scripts: the differences from what is expected."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.models.difference import NOTHING, Difference, one_line, unmet
from pexpolicy.testing.report import Row
from pexpolicy.testing.runner import case_row
from pexpolicy_local_policy.script_cases import ScriptCase
from pexpolicy_local_policy.script_process import Job, Rendering, ScriptPool
from pexpolicy_local_policy.secrets import HIDDEN, given_secrets, without
from pexpolicy_local_policy.verdict import Verdict, judge


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
