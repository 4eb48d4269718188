"""The command ``pexpolicy acme-closures``."""

from __future__ import annotations

from pathlib import Path

import click

from acme_platform.closures import read


@click.command("acme-closures")
@click.argument("file", type=click.Path(path_type=Path))
def closures(file: Path) -> None:
    """List the rooms that are closed in FILE."""
    for room in sorted(read(file)):
        click.echo(room)
