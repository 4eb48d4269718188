"""``pexpolicy local-policy test``."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import click

from pexpolicy import printable
from pexpolicy_local_policy.command_input import EX_USAGE, SECONDS, fail, say
from pexpolicy_local_policy.script_case_results import (
    ScriptCaseResult,
    as_junit,
    as_object,
    run_case,
)
from pexpolicy_local_policy.script_cases import ScriptCase, ScriptCasesError, load_script_cases
from pexpolicy_local_policy.script_process import ScriptPool

EX_FAILED = 1


@click.command(epilog="\b\nExamples:\n  pexpolicy local-policy test cases.toml --only Reception")
@click.argument("cases", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--only", "-k", default="", metavar="TEXT", help="Cases with TEXT in their name.")
@click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the report as JUnit XML.",
)
@click.option("--json", "print_json", is_flag=True, help="Print JSON.")
def test(cases: tuple[Path, ...], only: str, junit: Path | None, *, print_json: bool) -> None:
    """Run files of variables and expected results against scripts.

    Exit code 0: all cases passed. 1: a case failed. 2: no case ran, or wrong usage.
    """
    chosen = _chosen(cases, only)
    began = time.monotonic()
    results = asyncio.run(_run(chosen))
    seconds = time.monotonic() - began
    if print_json:
        click.echo(json.dumps(as_object(results, seconds), indent=2))
    else:
        _show(results, seconds)
    if junit is not None:
        try:
            junit.write_text(as_junit(results), encoding="utf-8")
        except OSError as error:
            fail(f"{junit} cannot be written: {error.strerror}")
    sys.exit(0 if all(result.passed for result in results) else EX_FAILED)


def _chosen(paths: Sequence[Path], only: str) -> list[ScriptCase]:
    """Return the cases whose names contain ``only``; exit with 2 without any, and on errors."""
    cases: list[ScriptCase] = []
    valid = True
    for path in paths:
        try:
            cases += load_script_cases(path)
        except ScriptCasesError as error:
            valid = False
            for problem in error.problems:
                say(f"{path}: {problem}", "red")
    if not valid:
        sys.exit(EX_USAGE)
    chosen = [case for case in cases if only.casefold() in case.name.casefold()]
    if not chosen:
        why = f"none of {len(cases)} has {only!r} in its name" if cases else "the files have none"
        fail(f"no case ran: {why}")
    return chosen


async def _run(cases: Sequence[ScriptCase]) -> list[ScriptCaseResult]:
    async with ScriptPool(1, SECONDS).running() as pool:
        return [await run_case(pool, case) for case in cases]


def _show(results: Sequence[ScriptCaseResult], seconds: float) -> None:
    for path, group in groupby(results, lambda result: result.case.path):
        of_file = list(group)
        click.secho(printable(str(path)), bold=True)
        width = max(len(result.case.name) for result in of_file)
        for result in of_file:
            name = printable(result.case.name)
            if result.passed:
                verdict = click.style(_cut(result, width), dim=True)
                click.echo(f"  {click.style('ok', fg='green')}    {name:<{width}}  {verdict}")
                continue
            click.echo(f"  {click.style('FAIL', fg='red', bold=True)}  {name}")
            for line in result.lines():
                click.echo(f"        {printable(line)}")
        click.echo()
    failed = sum(not result.passed for result in results)
    text = f"{len(results) - failed} passed, {failed} failed in {seconds * 1000:.0f} ms"
    click.secho(text, fg="red" if failed else "green", bold=True)


def _cut(result: ScriptCaseResult, width: int) -> str:
    """Return the verdict, as much of it as has room on the line of a terminal."""
    text = printable(result.summary.partition(". ")[0])
    room = shutil.get_terminal_size().columns - width - len("  ok      ")
    if sys.stdout.isatty() and len(text) > room:
        text = f"{text[: max(room - 1, 0)]}…"
    return text
