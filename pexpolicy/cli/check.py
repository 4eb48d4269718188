"""Command ``pexpolicy check``.

Its errors come from ``config/loader.py``, its warnings from ``builder.py`` (``config_warnings``),
``access/warnings.py`` and the plugins.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pexpolicy.access.warnings import preflight_problems
from pexpolicy.cli.common import (
    build,
    config_option,
    count,
    examples,
    exit_code,
    fail,
    json_option,
    print_warnings,
    refuse,
)
from pexpolicy.config.places import Places
from pexpolicy.config.problems import ConfigWarning, Problem, dotted_key
from pexpolicy.config.settings import ConfigError
from pexpolicy.policy import Policy


@click.command(
    epilog=examples(
        "pexpolicy check",
        "pexpolicy check --strict --json new/config.toml",
    )
)
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False))
@config_option
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option(
    "--open",
    "opens",
    is_flag=True,
    help="Open the plugins as a server does, with their files and connections, and close them.",
)
@json_option
def check(
    config: Path,
    file: Path | None,
    *,
    strict: bool,
    opens: bool,
    as_json: bool,
) -> None:
    """Check a configuration and its plugins; print every error.

    FILE is the configuration, in place of --config.

    Exit code 78 if it cannot be used, 75 if --open fails, 1 for a warning with --strict.
    """
    given = click.get_current_context().get_parameter_source("config")
    if file is not None and given is ParameterSource.COMMANDLINE:
        msg = f"{config} and {file} are two configurations: check one after the other"
        raise click.UsageError(msg)
    config = file or config
    policy, error = None, None
    try:
        policy = build(config, preflight_problems)
        if not as_json:
            print_warnings(policy)
        if opens:
            asyncio.run(_open_and_close(policy))
    except ConfigError as raised:
        error = raised
    if as_json:
        click.echo(json.dumps(_document(config, policy, error), indent=2))
        sys.exit(exit_code(error) if error else strict and bool(policy and policy.warnings))
    if error is not None or policy is None:
        assert error is not None
        fail(error)
    names = ", ".join(plugin.name for plugin in policy.plugins) or "no plugins"
    warnings = count(len(policy.warnings), "warning") if policy.warnings else ""
    if warnings and strict:
        refuse(f"{config}: {warnings}, and --strict allows none", 1)
    shown = f"valid, {warnings}" if warnings else "valid"
    click.secho(f"{config}: {shown} ({names}; {policy.config_hash})", fg="green")


def _document(config: Path, policy: Policy | None, error: ConfigError | None) -> dict[str, Any]:
    """Return what was found, for programs."""
    places = Places.of_file(config)

    def listed(remarks: Iterable[Problem | ConfigWarning]) -> list[dict[str, Any]]:
        return [
            {
                "key": dotted_key(remark.key),
                "message": remark.text,
                "line": (place := places.place_of(remark) or (None, None))[0],
                "column": place[1],
            }
            for remark in remarks
        ]

    return {
        "file": str(config),
        "valid": error is None,
        "config_hash": policy.config_hash if policy is not None else None,
        "plugins": [plugin.name for plugin in policy.plugins] if policy is not None else [],
        "errors": listed(error.problems if error is not None else ()),
        "warnings": listed(policy.warnings if policy is not None else ()),
    }


async def _open_and_close(policy: Policy) -> None:
    async with policy.serving():
        pass
