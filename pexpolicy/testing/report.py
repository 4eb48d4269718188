"""Reports of a run of cases: text, JSON, and JUnit XML."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree as ET

import click

from pexpolicy.testing.case_results import Result
from pexpolicy.testing.compare import CaseResult
from pexpolicy.testing.runner import HookCoverage, Run
from pexpolicy.text import printable

R = TypeVar("R", bound=Result)


def show(run: Run) -> None:
    """Print each case, the differences of failed ones, and the coverage."""
    show_results(run.results)
    for line in _table(run.coverage):
        click.echo(line)
    show_totals(run.results, run.seconds)


def show_results(results: Sequence[Result]) -> None:
    """Print the cases of each file, and the differences of failed ones."""
    for path, of_file in _by_file(results):
        click.secho(printable(str(path)), bold=True)
        width = max(len(result.case.name) for result in of_file)
        for result in of_file:
            name = printable(result.case.name)
            if result.passed:
                ok, remark = (
                    click.style("ok", fg="green"),
                    click.style(_cut(result, width), dim=True),
                )
                click.echo(f"  {ok}    {name:<{width}}  {remark}")
                continue
            click.echo(f"  {click.style('FAIL', fg='red', bold=True)}  {name}")
            for line in result.lines():
                click.echo(f"        {printable(line)}")
        click.echo()


def show_totals(results: Sequence[Result], seconds: float) -> None:
    """Print how many cases passed and failed."""
    failed = sum(not result.passed for result in results)
    text = f"{len(results) - failed} passed, {failed} failed in {seconds * 1000:.0f} ms"
    click.secho(text, fg="red" if failed else "green", bold=True)


def _by_file(results: Sequence[R]) -> Iterator[tuple[Path, list[R]]]:
    for path, of_file in groupby(results, lambda result: result.case.path):
        yield path, list(of_file)


def _cut(result: Result, width: int) -> str:
    """Return the remark, as much of it as has room on the line of a terminal."""
    text = printable(result.remark)
    room = shutil.get_terminal_size().columns - width - len("  ok      ")
    if sys.stdout.isatty() and len(text) > room:
        text = f"{text[: max(room - 1, 0)]}…"
    return text


def _table(reached: list[HookCoverage]) -> Iterator[str]:
    """Yield a line for each hook: how often its plugin was asked, and decided."""
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
        **totals(run.results, run.seconds),
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


def totals(results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """Return the counts for JSON."""
    failed = sum(not result.passed for result in results)
    return {"passed": len(results) - failed, "failed": failed, "seconds": round(seconds, 3)}


def about(result: Result) -> dict[str, Any]:
    """Return what JSON has of each case."""
    return {
        "file": str(result.case.path),
        "name": result.case.name,
        "passed": result.passed,
        "differences": [asdict(difference) for difference in result.differences],
    }


def _case(result: CaseResult) -> dict[str, Any]:
    outcome = result.outcome
    return {
        **about(result),
        "endpoint": result.endpoint,
        "decided_by": outcome.decided_by if outcome else None,
        "ms": round(result.seconds * 1000, 3),
        "steps": [
            {
                "plugin": step.plugin,
                "outcome": step.outcome,
                "ms": round(step.ms, 3),
                "detail": step.detail,
                "hook": step.hook,
                "fields": list(step.changes or step.fields),
            }
            for step in (outcome.steps if outcome else ())
        ],
        "warnings": list(outcome.decision.warnings) if outcome else [],
    }


def as_junit(results: Sequence[Result], command: str = "pexpolicy test") -> str:
    """Return the results as JUnit XML, a suite for each file."""
    root = ET.Element("testsuites", name=command, tests=str(len(results)))
    root.set("failures", str(sum(not result.passed for result in results)))
    for path, of_file in _by_file(results):
        suite = ET.SubElement(root, "testsuite", name=printable(str(path)))
        suite.set("tests", str(len(of_file)))
        suite.set("failures", str(sum(not result.passed for result in of_file)))
        suite.set("errors", "0")
        suite.set("time", f"{sum(result.seconds for result in of_file):.3f}")
        for result in of_file:
            _junit_case(suite, result)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_case(suite: ET.Element, result: Result) -> None:
    case = ET.SubElement(suite, "testcase", name=printable(result.case.name))
    case.set("classname", result.group)
    case.set("time", f"{result.seconds:.3f}")
    if not result.passed:
        keys = ", ".join(difference.key for difference in result.differences)
        failure = ET.SubElement(case, "failure", message=printable(f"not as expected: {keys}"))
        failure.text = "\n".join(printable(line) for line in result.lines())
