"""The result of a replay as JUnit XML, for continuous integration."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from pexpolicy.models.difference import describe_changes
from pexpolicy.replay.result import Group, ReplayResult
from pexpolicy.text import printable


def as_junit(result: ReplayResult) -> str:
    """Return a suite for each endpoint: a failure for each group, and a case for equal answers."""
    endpoints = sorted({endpoint for endpoint, _, _ in result.tally.matrix})
    root = ET.Element("testsuites", name="pexpolicy replay")
    root.set("failures", str(len(result.groups)))
    root.set("tests", str(len(result.groups) + len(endpoints)))
    for endpoint in endpoints:
        groups = [
            (number, group)
            for number, group in enumerate(result.groups, 1)
            if group.key.endpoint == endpoint
        ]
        suite = ET.SubElement(root, "testsuite", name=endpoint, tests=str(len(groups) + 1))
        suite.set("failures", str(len(groups)))
        suite.set("errors", "0")
        asked = sum(count for row, count in result.tally.matrix.items() if row[0] == endpoint)
        case = ET.SubElement(suite, "testcase", classname=endpoint, name=f"{asked} calls asked")
        case.set("time", "0")
        for number, group in groups:
            _add_failure(suite, number, group)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_failure(suite: ET.Element, number: int, group: Group) -> None:
    key = group.key
    name = printable(f"group {number}: {key.old_action} to {key.new_action} by {key.new_by}")
    case = ET.SubElement(suite, "testcase", classname=key.endpoint, name=name, time="0")
    message = f"{group.count} calls change: {', '.join(key.fields)}"
    failure = ET.SubElement(case, "failure", message=printable(message))
    failure.text = "\n".join(
        printable(line)
        for line in (
            f"example {group.example.place}",
            group.example.url,
            describe_changes(group.example.changes),
        )
    )
