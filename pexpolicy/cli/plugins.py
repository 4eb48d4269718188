"""``pexpolicy plugins``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from pexpolicy.cli.common import build_or_exit, config_option, examples, json_option
from pexpolicy.cli.text import screen, table_of
from pexpolicy.hooks import HOOKS
from pexpolicy.plugins.discovery import discover
from pexpolicy.policy import Policy

HOST_KEYS = ("priority", "timeout", "on_error", "mode", "isolation")
"""What the host decides about a plugin, as listed."""


@click.command(
    epilog=examples(
        "pexpolicy plugins", "pexpolicy plugins --config /etc/pexpolicy/config.toml --json"
    )
)
@config_option
@json_option
def plugins(config: Path, *, as_json: bool) -> None:
    """List the plugins: the order in which they are asked, and what is installed."""
    policy = build_or_exit(config)
    try:
        listed = _listed(policy)
    finally:
        policy.close()
    if as_json:
        click.echo(json.dumps(listed, indent=2))
    else:
        _show(listed)


def _listed(policy: Policy) -> dict[str, Any]:
    """Return the plugins of each hook in the order in which they are asked, and the state of each
    installed one.
    """
    active = {plugin.name: plugin for plugin in policy.plugins}
    sources = {name: plugin.available for name, plugin in active.items()}
    used = {(source.plugin or name, source.distribution) for name, source in sources.items()}
    idle = [
        source
        for first in discover(policy.settings.plugin_dirs)[0].values()
        for source in (first, *first.rivals)
        if (source.name, source.distribution) not in used
    ]
    idle.sort(key=lambda source: (source.name, source.distribution))
    listed = []
    for available in (*sources.values(), *idle):
        plugin = None if available in idle else active[available.name]
        row: dict[str, Any] = {
            "name": available.name,
            "plugin": available.plugin or available.name,
            "state": "active" if plugin else "available",
            "distribution": available.distribution,
            "version": available.version,
            "source": available.source,
        }
        if plugin is not None:
            row |= {key: getattr(plugin.table, key) for key in HOST_KEYS}
            row["hooks"] = [hook for hook in HOOKS if hook in plugin.implemented]
        listed.append(row)
    order = {name: [link.plugin for link in chain.links] for name, chain in policy.chains.items()}
    others = {
        hook: names
        for hook in HOOKS
        if hook not in order
        and (names := [p.name for p in policy.plugins if hook in p.implemented])
    }
    return {"order": order, "other_hooks": others, "plugins": listed}


def _show(listed: dict[str, Any]) -> None:
    """Print the listing as tables."""
    console = screen()
    order = table_of("hook", "order")
    for hook, names in listed["order"].items():
        order.add_row(hook, " → ".join(names) or Text("(default)", style="dim"))
    others = table_of("other hook", "plugins")
    for hook, names in listed["other_hooks"].items():
        others.add_row(hook, ", ".join(names))
    table = table_of("plugin", "state", *HOST_KEYS)
    origins = table_of("plugin", "distribution", "version", "source")
    for row in listed["plugins"]:
        active = row["state"] == "active"
        table.add_row(
            row["name"],
            Text(row["state"], style="green" if active else "dim"),
            *(str(row[key]) if active else "" for key in HOST_KEYS),
        )
        origins.add_row(row["name"], row["distribution"], row["version"], row["source"])
    for shown in (order, others, table, origins):
        if shown.row_count:
            console.print(shown)
            console.print()
