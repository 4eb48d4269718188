"""What was found, added up: for programs as JSON, and for CI as JUnit XML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree as ET

from pexpolicy.conformance.check_reply import UNREADABLE
from pexpolicy.conformance.findings import Finding, Level, Topic, warning
from pexpolicy.conformance.runner import TRANSPORT, StepResult
from pexpolicy.text import printable

NOT_FOUND = (
    "every request got 404: is this the URL of a policy server, and does it hold the base path?"
)


@dataclass(frozen=True, slots=True)
class Report:
    """All steps that were played against one server."""

    url: str
    played: list[StepResult] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """True without a violation; warnings do not count."""
        return not any(played.violated for played in self.played)

    @property
    def only_404(self) -> bool:
        """True where nothing shows that a policy server stands behind the URL.

        The query of 20 KB may be refused before anybody looks where it goes.
        """
        statuses = {played.status for played in self.played if played.flow != TRANSPORT}
        return HTTPStatus.NOT_FOUND in statuses and statuses <= {HTTPStatus.NOT_FOUND, *UNREADABLE}

    def conclude(self) -> None:
        """Warn at the first request where all of them together say what none says by itself."""
        if self.only_404:
            first = self.played[0]
            doubt = warning(Topic.STATUS, NOT_FOUND)
            self.played[0] = replace(first, findings=(*first.findings, doubt))

    @property
    def slowest(self) -> float:
        """Seconds that the slowest reply took."""
        return max((played.seconds for played in self.played), default=0.0)

    def count(self, level: Level) -> int:
        """How many findings of a level there are."""
        return sum(f.level is level for played in self.played for f in played.findings)

    def flows(self) -> Iterator[tuple[str, list[StepResult]]]:
        """The steps by flow, in the order in which they were played."""
        flows: dict[str, list[StepResult]] = {}
        for played in self.played:
            flows.setdefault(played.flow, []).append(played)
        yield from flows.items()

    def grouped(self) -> list[tuple[Finding, str, list[StepResult]]]:
        """Each finding once per endpoint, with the steps it was made in; violations first."""
        groups: dict[tuple[Finding, str], list[StepResult]] = {}
        for played in self.played:
            for finding in played.findings:
                groups.setdefault((finding, played.endpoint), []).append(played)
        found = [(finding, endpoint, steps) for (finding, endpoint), steps in groups.items()]
        return sorted(found, key=lambda group: group[0].level is not Level.VIOLATION)


def as_json(report: Report) -> str:
    """The report as JSON."""
    return json.dumps(
        {
            "url": report.url,
            "clean": report.clean,
            "violations": report.count(Level.VIOLATION),
            "warnings": report.count(Level.WARNING),
            "slowest_ms": round(report.slowest * 1000, 1),
            "steps": [_step(played) for played in report.played],
        },
        indent=2,
    )


def _step(played: StepResult) -> dict[str, Any]:
    return {
        "flow": played.flow,
        "step": played.step,
        "endpoint": played.endpoint,
        "method": played.method,
        "target": played.target,
        "status": played.status,
        "ms": round(played.seconds * 1000, 1),
        "findings": [
            {"level": f.level.value, "topic": f.topic.value, "text": f.text, "mark": f.mark}
            for f in played.findings
        ],
    }


def as_junit(report: Report) -> str:
    """The report as JUnit XML: a suite per flow, a case per step; warnings go to its output."""
    root = ET.Element("testsuites", name="pexpolicy probe", tests=str(len(report.played)))
    for flow, steps in report.flows():
        suite = ET.SubElement(
            root,
            "testsuite",
            name=flow,
            tests=str(len(steps)),
            failures=str(sum(played.violated for played in steps)),
            errors="0",
            time=f"{sum(played.seconds for played in steps):.3f}",
        )
        for played in steps:
            _case(suite, played)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, played: StepResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        name=played.step,
        classname=f"{played.flow}.{played.endpoint}",
        time=f"{played.seconds:.3f}",
    )
    violations = [f for f in played.findings if f.level is Level.VIOLATION]
    if violations:
        failure = ET.SubElement(
            case, "failure", type=violations[0].topic.value, message=printable(violations[0].text)
        )
        lines = [f"{f.topic.value}: {printable(f.text)} [{f.mark}]" for f in violations]
        failure.text = "\n".join([*lines, f"{played.method} {played.target}"])
    warnings = [f for f in played.findings if f.level is Level.WARNING]
    if warnings:
        lines = [f"warning: {f.topic.value}: {printable(f.text)} [{f.mark}]" for f in warnings]
        ET.SubElement(case, "system-out").text = "\n".join(lines)
