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
            **{key: getattr(available, key) for key in ORIGIN},
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
    rows = listed["plugins"]
    styles = {"active": "green", "available": "dim"}
    for names, shown in (
        (
            ("hook", "order"),
            [(hook, " → ".join(n) or ("(default)", "dim")) for hook, n in listed["order"].items()],
        ),
        (
            ("other hook", "plugins"),
            [(hook, ", ".join(plugins)) for hook, plugins in listed["other_hooks"].items()],
        ),
        (
            ("plugin", "state", *HOST_KEYS),
            [
                (
                    row["name"],
                    (row["state"], styles[row["state"]]),
                    *(str(row.get(key, "")) for key in HOST_KEYS),
                )
                for row in rows
            ],
        ),
        (("plugin", *ORIGIN), [(row["name"], *(row[key] for key in ORIGIN)) for row in rows]),
    ):
        if shown:
            print_table(console, names, shown)
            console.print()
