"""``pexpolicy plugins``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pexpolicy.cli.common import build_or_exit, config_option
from pexpolicy.plugins.discovery import discover
from pexpolicy.plugins.plugin import NO_DECISION
from pexpolicy.policy import Policy


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(config: Path, *, as_json: bool) -> None:
    """List the plugins: the order in which they are asked, and what is installed."""
    listed = _listed(build_or_exit(config))
    if as_json:
        click.echo(json.dumps(listed, indent=2))
    else:
        _show(listed)


def _listed(policy: Policy) -> dict[str, Any]:
    """The plugins by hook in the order in which they are asked, and every installed one with its
    state.
    """
    active = {plugin.name: plugin for plugin in policy.plugins}
    listed = []
    installed, _ = discover(policy.settings.plugin_dirs)
    for name, available in {**{n: p.available for n, p in active.items()}, **installed}.items():
        plugin = active.get(name)
        row: dict[str, Any] = {
            "name": name,
            "state": "active" if plugin else "available",
            "distribution": available.distribution,
            "version": available.version,
            "source": available.source,
        }
        if plugin is not None:
            row |= {
                "priority": plugin.table.priority,
                "timeout": plugin.table.timeout,
                "on_error": plugin.table.on_error,
                "mode": plugin.table.mode,
                "isolation": plugin.table.isolation,
                "hooks": [hook for hook in plugin.hooks if hook not in NO_DECISION],
            }
        listed.append(row)
    order = {name: [link.plugin for link in chain.links] for name, chain in policy.chains.items()}
    return {"order": order, "plugins": listed}


def _show(listed: dict[str, Any]) -> None:
    """Print the listing as three tables."""
    console = Console()
    order = Table("hook", "order", box=None, header_style="bold")
    for hook, names in listed["order"].items():
        order.add_row(hook, " → ".join(names) or Text("(default)", style="dim"))
    console.print(order)
    console.print()
    table = Table(box=None, header_style="bold")
    host_keys = ("priority", "timeout", "on_error", "mode", "isolation")
    for column in ("plugin", "state", *host_keys):
        table.add_column(column)
    origins = Table("plugin", "distribution", "version", "source", box=None, header_style="bold")
    for row in listed["plugins"]:
        active = row["state"] == "active"
        table.add_row(
            row["name"],
            Text(row["state"], style="green" if active else "dim"),
            *(str(row[key]) if active else "" for key in host_keys),
        )
        origins.add_row(row["name"], row["distribution"], row["version"], row["source"])
    console.print(table)
    console.print()
    console.print(origins)
