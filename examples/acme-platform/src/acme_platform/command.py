"""The command ``pexpolicy acme-closures``."""

from __future__ import annotations

import json
from urllib.request import urlopen

import click


@click.command("acme-closures")
@click.argument("url", default="http://127.0.0.1:9107/plugins/acme_closures/rooms")
def closures(url: str) -> None:
    """List the rooms that are closed, from the admin listener at URL."""
    with urlopen(url, timeout=5) as reply:  # noqa: S310 - the operator writes it
        for room in json.load(reply):
            click.echo(room)
