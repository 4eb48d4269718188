"""``pexpolicy local-policy test``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from pexpolicy.testing.cases import chosen_or_exit
from pexpolicy.testing.report import Row, as_json, as_junit, show, write_or_exit
from pexpolicy_local_policy.command_input import SECONDS
from pexpolicy_local_policy.script_case_results import run_case
from pexpolicy_local_policy.script_cases import ScriptCase, load_script_cases
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
    chosen = chosen_or_exit(cases, load_script_cases, only)
    began = time.monotonic()
    results = asyncio.run(_run(chosen))
    seconds = time.monotonic() - began
    if print_json:
        click.echo(json.dumps(as_json(results, seconds), indent=2))
    else:
        show(results, seconds)
    if junit is not None:
        write_or_exit(junit, as_junit(results, "pexpolicy local-policy test"))
    sys.exit(0 if all(row.ok for row in results) else EX_FAILED)


async def _run(cases: Sequence[ScriptCase]) -> list[Row]:
    async with ScriptPool(1, SECONDS).running() as pool:
        return [await run_case(pool, case) for case in cases]
