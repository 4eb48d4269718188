"""Command ``pexpolicy test``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import click

from pexpolicy.cli.common import build_or_exit, config_option, examples, fail, json_option
from pexpolicy.config.settings import ConfigError
from pexpolicy.models.context import DryRunClock
from pexpolicy.policy import BuildContext
from pexpolicy.testing import report
from pexpolicy.testing.cases import chosen_or_exit, load_cases
from pexpolicy.testing.runner import run_cases

EX_FAILED = 1


@click.command(
    epilog=examples(
        "pexpolicy test cases.toml",
        "pexpolicy test cases.toml --only Reception --report coverage.html",
        "pexpolicy test cases/rooms.toml cases/rules.toml --report report.xml",
    )
)
@config_option
@click.argument("cases", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--only", "-k", default="", metavar="TEXT", help="Cases with TEXT in their name.")
@json_option
@report.report_option
def test(
    config: Path, cases: tuple[Path, ...], only: str, reports: tuple[Path, ...], *, as_json: bool
) -> None:
    """Run files of requests and expected decisions.

    JSON and a page have the coverage too: which rooms, rules and subnets decided.

    Exit code 0: all cases passed. 1: a case failed. 2: no case ran, or wrong usage. 75: a plugin
    cannot open what it needs. 78: the configuration cannot be used.
    """
    options = BuildContext(wall_clock=DryRunClock())
    try:
        policy = build_or_exit(config, context=options)
        run = asyncio.run(run_cases(policy, chosen_or_exit(cases, load_cases, only)))
    except ConfigError as error:
        fail(error)
    coverage = run.coverage
    if as_json:
        shown = report.as_json(run.rows, run.seconds)
        covered = {"coverage": coverage.hooks(), "coverage_items": coverage.objects()}
        click.echo(json.dumps({**shown, **covered}, indent=2))
    else:
        parts = [*report.hook_parts(coverage)]
        if any(path.suffix == ".html" for path in reports):
            parts += report.coverage_parts(coverage)
        report.show(run.rows, run.seconds, parts)
    page = [*report.coverage_parts(coverage)]
    report.write_reports(reports, "pexpolicy test", run.rows, "Coverage of the cases", page)
    sys.exit(EX_FAILED if not all(row.ok for row in run.rows) else 0)
