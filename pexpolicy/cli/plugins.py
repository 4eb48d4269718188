"""``pexpolicy plugins``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pexpolicy.cli.common import (
    build_or_exit,
    config_option,
    examples,
    json_option,
    print_table,
    screen,
)
from pexpolicy.hooks import HOOKS
from pexpolicy.plugins.discovery import discover
from pexpolicy.policy import Policy

HOST_KEYS = ("priority", "timeout", "on_error", "mode", "isolation")
"""What the host decides about a plugin, as listed."""
ORIGIN = ("distribution", "version", "source")


@click.command(epilog=examples("pexpolicy plugins", "pexpolicy plugins --json"))
@config_option
@json_option
def plugins(config: Path, *, as_json: bool) -> None:
    """List the plugins in the order in which they are asked."""
    policy = build_or_exit(config)
    try:
        listed = _listed(policy)
    finally:
        policy.close()
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    console = screen()
    hooks = {name: " → ".join(found) or "(default)" for name, found in listed["order"].items()}
    hooks |= {name: ", ".join(found) for name, found in listed["other_hooks"].items()}
    print_table(console, ("hook", "plugins"), hooks.items())
    console.print()
    columns = ("name", "state", *HOST_KEYS, *ORIGIN)
    rows = [[str(row.get(name, "")) for name in columns] for row in listed["plugins"]]
    print_table(console, columns, rows)


def _listed(policy: Policy) -> dict[str, Any]:
    """Return the plugins of each hook in the order in which they are asked, and the state of each
    installed one.
    """
    rows: list[dict[str, Any]] = []
    used = set()
    for plugin in policy.plugins:
        source = plugin.available
        used.add((source.plugin or plugin.name, source.distribution))
        rows.append(
            {"name": source.name, "plugin": source.plugin or source.name, "state": "active"}
            | {key: getattr(source, key) for key in ORIGIN}
            | {key: getattr(plugin.table, key) for key in HOST_KEYS}
            | {"hooks": [hook for hook in HOOKS if hook in plugin.implemented]}
        )
    found, _ = discover(policy.settings.plugin_dirs)
    idle = [one for first in found.values() for one in (first, *first.rivals)]
    rows += [
        {"name": source.name, "plugin": source.name, "state": "available"}
        | {key: getattr(source, key) for key in ORIGIN}
        for source in sorted(idle, key=lambda source: (source.name, source.distribution))
        if (source.name, source.distribution) not in used
    ]
    order = {name: [link.plugin for link in chain.links] for name, chain in policy.chains.items()}
    others = {
        hook: names
        for hook in HOOKS
        if hook not in order
        and (names := [p.name for p in policy.plugins if hook in p.implemented])
    }
    return {"order": order, "other_hooks": others, "plugins": rows}
