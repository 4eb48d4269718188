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
from pexpolicy.testing.cases import Case, CasesError, load_cases
from pexpolicy.testing.replay import coverage_report
from pexpolicy.testing.report import as_json as json_report
from pexpolicy.testing.report import as_junit, show
from pexpolicy.testing.runner import run_cases
from pexpolicy.text import printable

EX_FAILED = 1
EX_USAGE = 2


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
    cases = _cases(paths)
    if cases is None:
        return EX_USAGE
    chosen = [case for case in cases if only.casefold() in case.name.casefold()]
    if not chosen:
        why = f"none of {len(cases)} has {only!r} in its name" if cases else "the files have none"
        click.secho(f"no case ran: {why}", fg="red", err=True)
        return EX_USAGE
    run = asyncio.run(run_cases(policy, chosen))
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
    try:
        if junit is not None:
            junit.write_text(as_junit(run), encoding="utf-8")
        if html is not None:
            page = coverage_report.as_page("Coverage of the cases", items, used)
            html.write_text(page, encoding="utf-8")
    except OSError as error:
        click.secho(f"{error.filename} cannot be written: {error.strerror}", fg="red", err=True)
        return EX_USAGE
    return EX_FAILED if run.failed else 0


def _cases(paths: Sequence[Path]) -> list[Case] | None:
    """Return the cases of all files; ``None`` after printing the problems of any file."""
    cases: list[Case] = []
    valid = True
    for path in paths:
        try:
            cases += load_cases(path)
        except CasesError as error:
            valid = False
            for problem in error.problems:
                click.secho(f"{path}: {problem}", fg="red", err=True)
    return cases if valid else None
