"""``pexpolicy check``.

Its errors come from ``config/loader.py``, its warnings from ``builder.py`` (``config_warnings``),
``access/warnings.py``, ``config/file_modes.py`` and the plugins.
"""

from __future__ import annotations

from pathlib import Path

import click

from pexpolicy.cli.common import build_or_exit, config_option, print_warnings
from pexpolicy.server.preflight import preflight_problems


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False))
@config_option
def check(config: Path, file: Path | None) -> None:
    """Check the configuration FILE, or that of --config, and print all errors and warnings.

    Exit code 78 if it cannot be used.
    """
    config = file or config
    policy = build_or_exit(config, preflight_problems)
    print_warnings(policy)
    names = ", ".join(plugin.name for plugin in policy.plugins) or "no plugins"
    count = len(policy.warnings)
    warnings = f", {count} warning{'s' if count > 1 else ''}" if count else ""
    click.secho(f"{config}: valid{warnings} ({names}; {policy.config_hash})", fg="green")
