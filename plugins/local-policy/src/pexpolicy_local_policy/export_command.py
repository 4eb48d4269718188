"""``pexpolicy local-policy export``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pexpolicy.testing import ConfigError, make_policy
from pexpolicy_local_policy.command_input import EX_DATAERR, KINDS, fail, say
from pexpolicy_local_policy.export import ExportError
from pexpolicy_local_policy.export import export as exported
from pexpolicy_local_policy.variables import Kind


@click.command(epilog="\b\nExamples:\n  pexpolicy local-policy export > service.jinja2")
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="PEXPOLICY_CONFIG",
    default=Path("config.toml"),
    show_default=True,
    metavar="FILE",
)
@click.option("--kind", type=KINDS, default="service", show_default=True)
def export(config: Path, kind: Kind) -> None:
    """Print the rules and locations of a configuration as a script that decides the same.

    Exit code 0: the script is on standard output. 65: it cannot decide the same; the reasons are on
    standard error. 2: wrong usage.
    """
    try:
        policy = make_policy(config)
    except ConfigError as error:
        fail(str(error))
    try:
        script = exported(policy, kind)
    except ExportError as error:
        for problem in error.problems:
            say(f"{config}: {problem}", "red")
        sys.exit(EX_DATAERR)
    click.echo(script, nl=False)
