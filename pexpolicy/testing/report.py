"""Reports of a run of cases: text, JSON, and JUnit XML."""

from __future__ import annotations

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
    """Print each case, the differences of failed ones, and the coverage."""
    for path, results in _by_file(run):
        click.secho(str(path), bold=True)
        width = max(len(result.case.name) for result in results)
        for result in results:
            _show_case(result, width)
        click.echo()
    for line in _table(run.coverage):
        click.echo(line)
    failed = len(run.failed)
    text = f"{len(run.results) - failed} passed, {failed} failed in {run.seconds * 1000:.0f} ms"
    click.secho(text, fg="red" if failed else "green", bold=True)


def _by_file(run: Run) -> Iterator[tuple[Path, list[CaseResult]]]:
    for path, results in groupby(run.results, lambda result: result.case.path):
        yield path, list(results)


def _show_case(result: CaseResult, width: int) -> None:
    name = printable(result.case.name)
    if result.passed:
        by = result.outcome.decided_by if result.outcome else ""
        click.echo(
            f"  {click.style('ok', fg='green')}    {name:<{width}}  {click.style(by, dim=True)}"
        )
        return
    click.echo(f"  {click.style('FAIL', fg='red', bold=True)}  {name}")
    for line in result.lines():
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


def as_json(run: Run) -> dict[str, Any]:
    """Return the run as an object of JSON."""
    return {
        "passed": len(run.results) - len(run.failed),
        "failed": len(run.failed),
        "seconds": round(run.seconds, 3),
        "cases": [_case(result) for result in run.results],
        "coverage": [
            {
                "plugin": hook.plugin,
                "hook": hook.hook,
                "asked": hook.asked,
                "decided": hook.decided,
                "failed": hook.failed,
                "reasons": sorted(hook.reasons),
            }
            for hook in run.coverage
        ],
    }


def _case(result: CaseResult) -> dict[str, Any]:
    outcome = result.outcome
    return {
        "file": str(result.case.path),
        "name": result.case.name,
        "endpoint": result.endpoint,
        "passed": result.passed,
        "decided_by": outcome.decided_by if outcome else None,
        "ms": round(result.seconds * 1000, 3),
        "differences": [
            {"key": d.key, "expected": d.expected, "got": d.got} for d in result.differences
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
    root = ET.Element("testsuites", name="pexpolicy test", tests=str(len(run.results)))
    root.set("failures", str(len(run.failed)))
    for path, results in _by_file(run):
        suite = ET.SubElement(root, "testsuite", name=str(path), tests=str(len(results)))
        suite.set("failures", str(sum(not result.passed for result in results)))
        suite.set("errors", "0")
        suite.set("time", f"{sum(result.seconds for result in results):.3f}")
        for result in results:
            _junit_case(suite, result)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_case(suite: ET.Element, result: CaseResult) -> None:
    case = ET.SubElement(suite, "testcase", name=printable(result.case.name))
    case.set("classname", result.endpoint or "url")
    case.set("time", f"{result.seconds:.3f}")
    if not result.passed:
        keys = ", ".join(difference.key for difference in result.differences)
        failure = ET.SubElement(case, "failure", message=printable(f"not as expected: {keys}"))
        failure.text = "\n".join(printable(line) for line in result.lines())
