"""The report of a conformance test, also as JSON and as JUnit XML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree as ET

from pexpolicy.conformance.check_reply import UNREADABLE
from pexpolicy.conformance.findings import Finding, Level, Topic, warning
from pexpolicy.conformance.runner import HTTP_FLOW, StepResult
from pexpolicy.text import printable

NOT_FOUND = "every request got 404: is this the URL of a policy server, with its base path?"


SEVERITY = tuple(Level)


@dataclass(frozen=True, slots=True)
class Report:
    """The results of all steps against one server."""

    url: str
    results: list[StepResult] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        """True if no finding fails the server."""
        return not any(result.fails for result in self.results)

    @property
    def only_404(self) -> bool:
        """True if no reply shows that the URL is that of a policy server.

        The query of 20 KB may be refused before its path is read.
        """
        statuses = {result.status for result in self.results if result.flow != HTTP_FLOW}
        return HTTPStatus.NOT_FOUND in statuses and statuses <= {HTTPStatus.NOT_FOUND, *UNREADABLE}

    def conclude(self) -> None:
        """Add a warning to the first step if every request got 404."""
        if self.only_404:
            first = self.results[0]
            doubt = warning(Topic.STATUS, NOT_FOUND)
            self.results[0] = replace(first, findings=(*first.findings, doubt))

    @property
    def slowest(self) -> float:
        """The duration of the slowest reply in seconds."""
        return max((result.seconds for result in self.results), default=0.0)

    def count(self, level: Level) -> int:
        """Return the number of findings of a level."""
        return sum(f.level is level for result in self.results for f in result.findings)

    def flows(self) -> Iterator[tuple[str, list[StepResult]]]:
        """Yield the results by flow, in the order in which they were sent."""
        flows: dict[str, list[StepResult]] = {}
        for result in self.results:
            flows.setdefault(result.flow, []).append(result)
        yield from flows.items()

    def grouped(self) -> list[tuple[Finding, str, list[StepResult]]]:
        """Return each finding once for each endpoint, with its steps, the most severe first."""
        groups: dict[tuple[Finding, str], list[StepResult]] = {}
        for result in self.results:
            for finding in result.findings:
                groups.setdefault((finding, result.endpoint), []).append(result)
        found = [(finding, endpoint, steps) for (finding, endpoint), steps in groups.items()]
        return sorted(found, key=lambda group: SEVERITY.index(group[0].level))


def as_json(report: Report) -> str:
    """Return the report as JSON."""
    return json.dumps(
        {
            "url": report.url,
            "passes": report.passes,
            "findings": {level.value: report.count(level) for level in Level},
            "slowest_ms": round(report.slowest * 1000, 1),
            "steps": [_step(result) for result in report.results],
        },
        indent=2,
    )


def _step(result: StepResult) -> dict[str, Any]:
    return {
        "flow": result.flow,
        "step": result.step,
        "endpoint": result.endpoint,
        "method": result.method,
        "target": result.target,
        "status": result.status,
        "ms": round(result.seconds * 1000, 1),
        "findings": [
            {"level": f.level.value, "topic": f.topic.value, "text": f.text, "mark": f.mark}
            for f in result.findings
        ],
    }


def as_junit(report: Report) -> str:
    """Return the report as JUnit XML: a suite for each flow, a case for each step."""
    root = ET.Element("testsuites", name="pexpolicy conformance", tests=str(len(report.results)))
    for flow, steps in report.flows():
        suite = ET.SubElement(
            root,
            "testsuite",
            name=flow,
            tests=str(len(steps)),
            failures=str(sum(result.fails for result in steps)),
            errors="0",
            time=f"{sum(result.seconds for result in steps):.3f}",
        )
        for result in steps:
            _case(suite, result)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, result: StepResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        name=result.step,
        classname=f"{result.flow}.{result.endpoint}",
        time=f"{result.seconds:.3f}",
    )
    failures = [f for f in result.findings if f.level.fails]
    if failures:
        failure = ET.SubElement(
            case, "failure", type=failures[0].topic.value, message=printable(failures[0].text)
        )
        failure.text = "\n".join([*map(_line, failures), f"{result.method} {result.target}"])
    others = [f for f in result.findings if not f.level.fails]
    if others:
        ET.SubElement(case, "system-out").text = "\n".join(map(_line, others))


def _line(finding: Finding) -> str:
    text = printable(finding.text)
    return f"{finding.level.value}: {finding.topic.value}: {text} [{finding.mark}]"
