"""``pexpolicy check``."""

from __future__ import annotations

from pathlib import Path

import click

from pexpolicy.commands.common import advise, built, config_option
from pexpolicy.exposure import surroundings


@click.command()
@config_option
def check(config: Path) -> None:
    """Check the configuration; all errors and warnings at once. Exit code 78 when it cannot be
    used.
    """
    policy = built(config, surroundings)
    advise(policy)
    names = ", ".join(plugin.name for plugin in policy.plugins) or "no plugins"
    count = len(policy.advice)
    warnings = f", {count} warning{'s' if count > 1 else ''}" if count else ""
    click.secho(f"{config}: valid{warnings} ({names}; {policy.config_hash})", fg="green")
