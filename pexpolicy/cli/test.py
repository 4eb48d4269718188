"""Command ``pexpolicy test``."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pexpolicy.cli.common import build_or_exit, config_option, fail
from pexpolicy.cli.examples import examples
from pexpolicy.config.build_options import BuildOptions
from pexpolicy.config.settings import ConfigError
from pexpolicy.models.wall_clock import DryRunClock
from pexpolicy.policy import Policy
from pexpolicy.replay import coverage_report
from pexpolicy.testing.case_tables import chosen_or_exit, write_or_exit
from pexpolicy.testing.cases import load_cases
from pexpolicy.testing.report import as_json as json_report
from pexpolicy.testing.report import as_junit, show
from pexpolicy.testing.runner import run_cases
from pexpolicy.text import printable

EX_FAILED = 1


@click.command(
    epilog=examples(
        "pexpolicy test cases.toml",
        "pexpolicy test cases.toml --only Reception --coverage",
        "pexpolicy test cases/rooms.toml cases/rules.toml --junit report.xml",
    )
)
@config_option
@click.argument("cases", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--only", "-k", default="", metavar="TEXT", help="Cases with TEXT in their name.")
@click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the report as JUnit XML.",
)
@click.option("--coverage", is_flag=True, help="Report which rooms, rules and subnets decided.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the coverage as a page.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def test(
    config: Path,
    cases: tuple[Path, ...],
    only: str,
    junit: Path | None,
    html: Path | None,
    *,
    coverage: bool,
    as_json: bool,
) -> None:
    """Run files of requests and expected decisions against the configured policy.

    Exit code 0: all cases passed. 1: a case failed. 2: no case ran, or wrong usage. 75: a plugin
    cannot open what it needs. 78: the configuration cannot be used.
    """
    options = BuildOptions(wall_clock=DryRunClock())
    try:
        policy = build_or_exit(config, options=options)
        code = _run_files(policy, cases, only, junit, html, coverage=coverage, print_json=as_json)
    except ConfigError as error:
        fail(error)
    sys.exit(code)


def _run_files(
    policy: Policy,
    paths: Sequence[Path],
    only: str,
    junit: Path | None,
    html: Path | None,
    *,
    coverage: bool,
    print_json: bool,
) -> int:
    """Run the cases whose names contain ``only``; return the exit code of the command."""
    run = asyncio.run(run_cases(policy, chosen_or_exit(paths, load_cases, only)))
    items, used = run.items.items, run.items.used
    if print_json:
        report = json_report(run)
        if coverage:
            report["coverage_items"] = coverage_report.as_objects(items, used)
        click.echo(json.dumps(report, indent=2))
    else:
        show(run)
        if coverage:
            for line in coverage_report.lines(items, used):
                click.echo(printable(line))
    if junit is not None:
        write_or_exit(junit, as_junit(run.results))
    if html is not None:
        write_or_exit(html, coverage_report.as_page("Coverage of the cases", items, used))
    return EX_FAILED if run.failed else 0
