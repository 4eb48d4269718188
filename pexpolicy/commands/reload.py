"""``pexpolicy reload``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pexpolicy.commands.common import EX_CONFIG, config_option
from pexpolicy.reload.asking import ask_for_reload


@click.command()
@config_option
def reload(config: Path) -> None:
    """Let a running server take its configuration anew.

    Exit code 0 when it is in force; 78 when it cannot be used, and the server stays with what it
    has; 1 when no server with this configuration was found.
    """
    try:
        verdicts = ask_for_reload(config)
    except (OSError, ValueError) as error:
        click.secho(f"{config}: the server cannot be asked: {error}", fg="red", err=True)
        sys.exit(1)
    if not verdicts or None in verdicts:
        found = "ended while it was asked" if verdicts else "with this configuration was found"
        click.secho(f"{config}: no server {found}", fg="red", err=True)
        sys.exit(1)
    for verdict in verdicts:
        assert verdict is not None
        click.secho(
            f"{config}: {verdict}", fg="green" if verdict.done else "red", err=not verdict.done
        )
        for problem in verdict.problems:
            click.echo(f"  {problem}", err=True)
        for note in verdict.notes:
            click.secho(f"warning: {note}", fg="yellow", err=True)
    if not all(verdict.done for verdict in verdicts if verdict is not None):
        sys.exit(EX_CONFIG)
