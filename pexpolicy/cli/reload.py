"""``pexpolicy reload``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pexpolicy.cli.common import EX_CONFIG, config_option, examples, refuse, warn
from pexpolicy.config.files import missing_hint
from pexpolicy.server.reload_triggers import ask_for_reload
from pexpolicy.text import printable


@click.command(
    epilog=examples("pexpolicy reload", "pexpolicy reload --config /etc/pexpolicy/config.toml")
)
@config_option
def reload(config: Path) -> None:
    """Reload the configuration of a running server.

    Exit code 0 if the new configuration is active, 78 if it is invalid and the server keeps the
    active one, 1 if no running server with this configuration was found.
    """
    try:
        results = ask_for_reload(config)
    except (OSError, ValueError) as error:
        refuse(f"{config}: cannot reach the server: {error}", 1)
    if not results or None in results:
        text = "the server ended during the reload"
        if not results:
            text = "no server runs with this configuration; start it with pexpolicy serve"
            if not config.exists():
                text = f"there is no such file{missing_hint(config)}; name another with --config"
        refuse(f"{config}: {text}", 1)
    done = [result for result in results if result is not None]
    for result in done:
        style = "green" if result.done else "red"
        click.secho(f"{config}: {printable(result)}", fg=style, err=not result.done)
        for change in result.changes:
            click.echo(f"  {printable(change)}")
        for problem in result.problems:
            click.echo(f"  {printable(problem)}", err=True)
        for note in result.notes:
            warn(printable(note))
    if not all(result.done for result in done):
        sys.exit(EX_CONFIG)
