"""``pexpolicy plugins``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pexpolicy import listing
from pexpolicy.commands.common import built, config_option


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(config: Path, *, as_json: bool) -> None:
    """List the plugins: the order in which they are asked, and what is installed."""
    policy = built(config)
    listed = listing.plugins(policy)
    if as_json:
        click.echo(json.dumps(listed, indent=2))
    else:
        listing.show_plugins(listed)
