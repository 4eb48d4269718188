"""Commands ``pexpolicy check`` and ``pexpolicy plugins``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pexpolicy.access.warnings import preflight_problems
from pexpolicy.cli.common import (
    as_option,
    build,
    config_option,
    count,
    examples,
    exit_code,
    file_user,
    flag,
    json_option,
    print_json,
    print_warnings,
    refuse,
    warn,
)
from pexpolicy.config.places import Places
from pexpolicy.config.problems import ConfigWarning, Problem, dotted_key
from pexpolicy.config.settings import ConfigError
from pexpolicy.errors import describe_error
from pexpolicy.hooks import HOOKS
from pexpolicy.plugins.discovery import PluginSource, discover
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.testing.report import Line, Table, print_parts


@click.command(
    epilog=examples(
        "pexpolicy check",
        "pexpolicy check --strict --json new/config.toml",
    )
)
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False))
@config_option
@flag("--strict", help="Fail on warnings too.")
@flag(
    "--open",
    "opens",
    help="Open the plugins as a server does, with their files and connections, and close them.",
)
@as_option
@json_option
def check(
    config: Path, file: Path | None, user: str | None, *, strict: bool, opens: bool, as_json: bool
) -> None:
    """Check a configuration and its plugins; print every error.

    FILE is the configuration, in place of --config.

    Exit code 78 if it cannot be used, 75 if --open fails, 1 for a warning with --strict.
    """
    given = click.get_current_context().get_parameter_source("config")
    if file is not None and given is ParameterSource.COMMANDLINE:
        raise click.UsageError(
            f"{config} and {file} are two configurations: check one after the other"
        )
    config = file or config
    policy, error = None, None
    context = BuildContext(file_user=file_user(config, user))
    try:
        policy = build(config, preflight_problems, context)
        if opens:
            asyncio.run(_open_and_close(policy))
    except ConfigError as raised:
        error = raised
    if as_json:
        print_json(_document(config, policy, error))
        sys.exit(exit_code(error) if error else strict and bool(policy and policy.warnings))
    warnings = print_warnings(policy) if policy is not None else []
    if error is not None:
        raise error
    assert policy is not None
    names = ", ".join(plugin.name for plugin in policy.plugins) or "no plugins"
    shown = ["valid", *[count(len(warnings), "warning")] * bool(warnings)]
    if warnings and strict:
        refuse(f"{config}: {shown[-1]}, and --strict allows none", 1)
    click.secho(f"{config}: {', '.join(shown)} ({names}; {policy.policy_hash})", fg="green")


def _document(config: Path, policy: Policy | None, error: ConfigError | None) -> dict[str, Any]:
    """Return what was found, for programs."""
    places = Places.of_file(config)

    def listed(remarks: Iterable[Problem | ConfigWarning]) -> list[dict[str, Any]]:
        return [
            {
                "key": dotted_key(remark.key),
                "message": remark.text,
                "file": (place := places.place_of(remark) or ("", None, None))[0] or str(config),
                "line": place[1],
                "column": place[2] or None,
            }
            for remark in remarks
        ]

    return {
        "file": str(config),
        "valid": error is None,
        "policy_hash": policy.policy_hash if policy is not None else None,
        "plugins": [plugin.name for plugin in policy.plugins] if policy is not None else [],
        "errors": listed(error.problems if error is not None else ()),
        "warnings": listed(policy.warnings if policy is not None else ()),
    }


async def _open_and_close(policy: Policy) -> None:
    async with policy.serving():
        for source in dict.fromkeys(names.source for names in policy.all_names):
            try:
                await source.refresh_names() if source is not None else None
            except Exception as error:  # noqa: BLE001 - a driver raises what it likes
                warn(f"[infinity] source: {describe_error(error).summary}")
        _ = policy.warnings  # of the names as they are now


HOST_KEYS = ("priority", "timeout", "on_error", "mode", "isolation")
"""What the host decides about a plugin, as listed."""
ORIGIN = ("distribution", "version", "source")


@click.command(epilog=examples("pexpolicy plugins", "pexpolicy plugins --json"))
@config_option
@json_option
def plugins(config: Path, *, as_json: bool) -> None:
    """List the plugins in the order in which they are asked."""
    policy = build(config)
    try:
        listed = _listed(policy)
    finally:
        policy.close()
    if as_json:
        print_json(listed)
        return
    asked = {**listed["order"], **listed["other_hooks"]}
    hooks = [
        (name, " → ".join(found) or "(default)")
        for name, found in asked.items()
        # Those that a call passes; the rest is for authors.
        if name in listed["order"] or name.startswith(("adjust_", "restrict_", "on_"))
    ]
    columns = ("name", "state", *HOST_KEYS, *ORIGIN)
    rows = [[str(row.get(name, "")) for name in columns] for row in listed["plugins"]]
    print_parts([Table(("hook", "plugins"), hooks), Line(""), Table(columns, rows)])


def _listed(policy: Policy) -> dict[str, Any]:
    """Return the plugins of each hook in the order in which they are asked, and the state of each
    installed one.
    """

    def row(source: PluginSource, state: str) -> dict[str, Any]:
        names = {"name": source.name, "plugin": source.plugin or source.name, "state": state}
        return names | {key: getattr(source, key) for key in ORIGIN}

    rows = [
        row(plugin.available, "active")
        | {key: getattr(plugin.table, key) for key in HOST_KEYS}
        | {"hooks": [hook for hook in HOOKS if hook in plugin.implemented]}
        for plugin in policy.plugins
    ]
    used = {(row["plugin"], row["distribution"]) for row in rows}
    found, _ = discover(policy.settings.plugin_folders)
    installed = [one for first in found.values() for one in (first, *first.rivals)]
    rows += [
        row(source, "available")
        for source in sorted(installed, key=lambda source: (source.name, source.distribution))
        if (source.name, source.distribution) not in used
    ]
    order = {
        name: [link.plugin for link in chain.links[: chain.deciding]]
        for name, chain in policy.chains.items()
    }
    others = {
        hook: names
        for hook in HOOKS
        if hook not in order
        and (names := [p.name for p in policy.plugins if hook in p.implemented])
    }
    return {"order": order, "other_hooks": others, "plugins": rows}
