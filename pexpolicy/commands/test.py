"""``pexpolicy test``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pexpolicy.commands.common import built, config_option, fail
from pexpolicy.config import ConfigError
from pexpolicy.kit.command import run_files


@click.command()
@config_option
@click.argument("cases", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--only", "-k", default="", metavar="TEXT", help="Cases with TEXT in their name.")
@click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the report as JUnit XML.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def test(
    config: Path, cases: tuple[Path, ...], only: str, junit: Path | None, *, as_json: bool
) -> None:
    """Run files of requests and expected decisions against the configured policy.

    Exit code 0: all as expected. 1: not all. 2: no case ran, or wrong usage. 75: a plugin does not
    open what it needs. 78: the configuration cannot be used.
    """
    try:
        code = run_files(built(config), cases, only, junit, print_json=as_json)
    except ConfigError as error:
        fail(error)
    sys.exit(code)
