"""What became of cases: for people, for programs as JSON, and for CI as JUnit XML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click

from pexpolicy.testing.compare import CaseResult
from pexpolicy.testing.runner import HookCoverage, Run
from pexpolicy.text import printable


def show(run: Run) -> None:
    """Print each case, what is wrong with those that failed, and what the cases reach."""
    for path, verdicts in _by_file(run):
        click.secho(str(path), bold=True)
        width = max(len(verdict.case.name) for verdict in verdicts)
        for verdict in verdicts:
            _show_case(verdict, width)
        click.echo()
    for line in _table(run.reached):
        click.echo(line)
    failed = len(run.failed)
    text = f"{len(run.verdicts) - failed} passed, {failed} failed in {run.seconds * 1000:.0f} ms"
    click.secho(text, fg="red" if failed else "green", bold=True)


def _by_file(run: Run) -> Iterator[tuple[Path, list[CaseResult]]]:
    for path, verdicts in groupby(run.verdicts, lambda verdict: verdict.case.path):
        yield path, list(verdicts)


def _show_case(verdict: CaseResult, width: int) -> None:
    name = printable(verdict.case.name)
    if verdict.passed:
        by = verdict.outcome.decided_by if verdict.outcome else ""
        click.echo(
            f"  {click.style('ok', fg='green')}    {name:<{width}}  {click.style(by, dim=True)}"
        )
        return
    click.echo(f"  {click.style('FAIL', fg='red', bold=True)}  {name}")
    for line in verdict.lines():
        click.echo(f"        {printable(line)}")


def _table(reached: list[HookCoverage]) -> Iterator[str]:
    """Which plugin was asked and decided how often, a line for each hook."""
    if not reached:
        yield "no plugin answers anything in this configuration"
        return
    plugins = max(len("plugin"), *(len(hook.plugin) for hook in reached))
    hooks = max(len("hook"), *(len(hook.hook) for hook in reached))
    yield f"{'plugin':<{plugins}}  {'hook':<{hooks}}  asked  decided  failed"
    for hook in reached:
        counts = f"{hook.asked:>5}  {hook.decided:>7}  {hook.failed:>6}"
        never = "  never asked" if not hook.asked else "  never decided" * (not hook.decided)
        yield f"{hook.plugin:<{plugins}}  {hook.hook:<{hooks}}  {counts}{never}"


def as_json(run: Run) -> str:
    """The run as JSON."""
    return json.dumps(
        {
            "passed": len(run.verdicts) - len(run.failed),
            "failed": len(run.failed),
            "seconds": round(run.seconds, 3),
            "cases": [_case(verdict) for verdict in run.verdicts],
            "coverage": [
                {
                    "plugin": hook.plugin,
                    "hook": hook.hook,
                    "asked": hook.asked,
                    "decided": hook.decided,
                    "failed": hook.failed,
                    "reasons": sorted(hook.reasons),
                }
                for hook in run.reached
            ],
        },
        indent=2,
    )


def _case(verdict: CaseResult) -> dict[str, Any]:
    outcome = verdict.outcome
    return {
        "file": str(verdict.case.path),
        "name": verdict.case.name,
        "endpoint": verdict.endpoint,
        "passed": verdict.passed,
        "decided_by": outcome.decided_by if outcome else None,
        "ms": round(verdict.seconds * 1000, 3),
        "differences": [
            {"key": d.key, "expected": d.expected, "got": d.got} for d in verdict.differences
        ],
        "steps": [
            {
                "plugin": step.plugin,
                "outcome": step.outcome,
                "ms": round(step.ms, 3),
                "detail": step.detail,
            }
            for step in (outcome.steps if outcome else ())
        ],
    }


def as_junit(run: Run) -> str:
    """The run as JUnit XML, a suite for each file."""
    root = ET.Element("testsuites", name="pexpolicy test", tests=str(len(run.verdicts)))
    root.set("failures", str(len(run.failed)))
    for path, verdicts in _by_file(run):
        suite = ET.SubElement(root, "testsuite", name=str(path), tests=str(len(verdicts)))
        suite.set("failures", str(sum(not verdict.passed for verdict in verdicts)))
        suite.set("errors", "0")
        suite.set("time", f"{sum(verdict.seconds for verdict in verdicts):.3f}")
        for verdict in verdicts:
            _junit_case(suite, verdict)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_case(suite: ET.Element, verdict: CaseResult) -> None:
    case = ET.SubElement(suite, "testcase", name=printable(verdict.case.name))
    case.set("classname", verdict.endpoint or "url")
    case.set("time", f"{verdict.seconds:.3f}")
    if not verdict.passed:
        keys = ", ".join(difference.key for difference in verdict.differences)
        failure = ET.SubElement(case, "failure", message=printable(f"not as expected: {keys}"))
        failure.text = "\n".join(printable(line) for line in verdict.lines())
