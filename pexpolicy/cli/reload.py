"""``pexpolicy reload``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pexpolicy.cli.common import EX_CONFIG, config_option
from pexpolicy.server.reload.control_socket import ask_for_reload


@click.command()
@config_option
def reload(config: Path) -> None:
    """Reload the configuration of a running server.

    Exit code 0 when it is active; 78 when it cannot be used, and the server stays with what it
    has; 1 when no server with this configuration was found.
    """
    try:
        results = ask_for_reload(config)
    except (OSError, ValueError) as error:
        click.secho(f"{config}: the server cannot be asked: {error}", fg="red", err=True)
        sys.exit(1)
    if not results or None in results:
        found = "ended while it was asked" if results else "with this configuration was found"
        click.secho(f"{config}: no server {found}", fg="red", err=True)
        sys.exit(1)
    for result in results:
        assert result is not None
        click.secho(
            f"{config}: {result}", fg="green" if result.done else "red", err=not result.done
        )
        for problem in result.problems:
            click.echo(f"  {problem}", err=True)
        for note in result.notes:
            click.secho(f"warning: {note}", fg="yellow", err=True)
    if not all(result.done for result in results if result is not None):
        sys.exit(EX_CONFIG)
