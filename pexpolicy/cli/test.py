"""Command ``pexpolicy test``."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pexpolicy.cli.common import build_or_exit, config_option, examples, fail
from pexpolicy.config.settings import ConfigError
from pexpolicy.models.wall_clock import DryRunClock
from pexpolicy.policy import BuildContext
from pexpolicy.testing import report
from pexpolicy.testing.cases import chosen_or_exit, load_cases
from pexpolicy.testing.runner import Run, run_cases

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
    options = BuildContext(wall_clock=DryRunClock())
    try:
        policy = build_or_exit(config, context=options)
        run = asyncio.run(run_cases(policy, chosen_or_exit(cases, load_cases, only)))
    except ConfigError as error:
        fail(error)
    items, used = run.items.items, run.items.used
    if as_json:
        written = _as_json(run)
        if coverage:
            written["coverage_items"] = report.coverage_objects(items, used)
        click.echo(json.dumps(written, indent=2))
    else:
        parts = [*run.coverage_parts()]
        if coverage:
            parts += report.coverage_parts(items, used)
        report.show(run.rows, run.seconds, parts)
    if junit is not None:
        report.write_or_exit(junit, report.as_junit(run.rows, "pexpolicy test"))
    if html is not None:
        page = report.as_html(
            "Coverage of the cases", report.coverage_parts(items, used, full=True)
        )
        report.write_or_exit(html, page)
    sys.exit(EX_FAILED if run.failed else 0)


def _as_json(run: Run) -> dict[str, Any]:
    hooks = [{**asdict(hook), "reasons": sorted(hook.reasons)} for hook in run.coverage]
    return {**report.as_json(run.rows, run.seconds), "coverage": hooks}
