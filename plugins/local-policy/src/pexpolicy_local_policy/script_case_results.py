"""Results of cases for scripts: the differences from what is expected, and reports of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from xml.etree import ElementTree as ET

from pexpolicy import PROTECTIONS, printable
from pexpolicy_local_policy.script_cases import ScriptCase
from pexpolicy_local_policy.script_process import Job, Rendering, ScriptPool
from pexpolicy_local_policy.secrets import HIDDEN, given_secrets, without
from pexpolicy_local_policy.verdict import Verdict, judge

NOTHING = "nothing"
MAX_VALUE = 300
"""Characters of a value in a report."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not as expected, as text without secrets."""

    key: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class ScriptCaseResult:
    """A case, what Infinity makes of the output, and the differences from what is expected."""

    case: ScriptCase
    verdict: Verdict
    debug: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """True without a difference."""
        return not self.differences

    @property
    def summary(self) -> str:
        """The verdict in one line, without secrets."""
        return without(self.verdict.summary, given_secrets(self.case.given))

    def lines(self) -> Iterator[str]:
        """Return the differences, the verdict, and what the script logged."""
        width = max((len(difference.key) for difference in self.differences), default=0)
        for difference in self.differences:
            yield f"{difference.key:<{width}}  expected {difference.expected}"
            yield f"{'':<{width}}  got      {difference.got}"
        yield f"verdict: {self.summary}"
        secrets = given_secrets(self.case.given)
        yield from (f"pex_debug_log: {without(line, secrets)}" for line in self.debug)
        yield from (f"warning: {text}" for text in self.verdict.warnings)


async def run_case(pool: ScriptPool, case: ScriptCase) -> ScriptCaseResult:
    """Run the script of a case and compare."""
    rendering = await pool.run(Job(case.source, case.given.variables, case.at))
    verdict = judge(case.given, rendering)
    differences = tuple(_differences(case, verdict, rendering))
    return ScriptCaseResult(case, verdict, rendering.debug, differences)


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
        yield from _below("result", expected.result, verdict.result)
    if expected.changed is not None and sorted(expected.changed) != sorted(verdict.changed):
        wanted, found = (", ".join(sorted(names)) for names in (expected.changed, verdict.changed))
        yield Difference("changed", wanted or NOTHING, found or NOTHING)
    if expected.debug is not None and expected.debug != list(rendering.debug):
        logged = without(" / ".join(rendering.debug), secrets)
        yield Difference("debug", " / ".join(expected.debug) or NOTHING, logged or NOTHING)


def _below(key: str, expected: Any, got: Any) -> Iterator[Difference]:
    """Yield the differences between a value and the expected one; other fields are ignored."""
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        for name, value in expected.items():
            if name in got:
                yield from _below(f"{key}.{name}", value, got[name])
            else:
                yield Difference(f"{key}.{name}", _shown(name, value), NOTHING)
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for index, value in enumerate(expected):
            yield from _below(f"{key}[{index}]", value, got[index])
    elif type(expected) is not type(got) or expected != got:
        name = key.rpartition(".")[2]
        yield Difference(key, _shown(name, expected), _shown(name, got))


def _shown(name: str, value: Any) -> str:
    if value is None:
        return NOTHING
    if name in PROTECTIONS and value:
        return HIDDEN
    text = json.dumps(_without_secrets(value), ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}… ({len(text)} characters)"


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: HIDDEN if k in PROTECTIONS else _without_secrets(v) for k, v in value.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value


def as_object(results: Sequence[ScriptCaseResult], seconds: float) -> dict[str, Any]:
    """Return the results as an object of JSON."""
    failed = sum(not result.passed for result in results)
    return {
        "passed": len(results) - failed,
        "failed": failed,
        "seconds": round(seconds, 3),
        "cases": [
            {
                "file": str(result.case.path),
                "name": result.case.name,
                "script": str(result.case.script),
                "kind": result.case.given.kind,
                "passed": result.passed,
                "verdict": result.summary,
                "differences": [
                    {"key": d.key, "expected": d.expected, "got": d.got} for d in result.differences
                ],
            }
            for result in results
        ],
    }


def as_junit(results: Sequence[ScriptCaseResult]) -> str:
    """Return the results as JUnit XML, a suite for each file."""
    root = ET.Element("testsuites", name="pexpolicy local-policy test", tests=str(len(results)))
    root.set("failures", str(sum(not result.passed for result in results)))
    for path, group in groupby(results, lambda result: result.case.path):
        of_file = list(group)
        suite = ET.SubElement(root, "testsuite", name=str(path), tests=str(len(of_file)))
        suite.set("failures", str(sum(not result.passed for result in of_file)))
        for result in of_file:
            case = ET.SubElement(suite, "testcase", name=printable(result.case.name))
            case.set("classname", result.case.script.name)
            if not result.passed:
                keys = ", ".join(difference.key for difference in result.differences)
                text = printable(f"not as expected: {keys}")
                failure = ET.SubElement(case, "failure", message=text)
                failure.text = "\n".join(printable(line) for line in result.lines())
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
