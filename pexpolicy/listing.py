"""What the command line shows of plugins and of decisions."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pexpolicy.discovery import discover
from pexpolicy.endpoints.base import JSON
from pexpolicy.explain import Explained, without_secrets
from pexpolicy.outcome import DECIDED, DEFAULT
from pexpolicy.plugins import NO_DECISION
from pexpolicy.policy import Policy
from pexpolicy.redaction import Redaction
from pexpolicy.terminal import printable


def plugins(policy: Policy) -> dict[str, Any]:
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


def show_plugins(listed: dict[str, Any]) -> None:
    """Print the listing as three tables."""
    console = Console()
    order = Table("hook", "asked in this order", box=None, header_style="bold")
    for hook, names in listed["order"].items():
        order.add_row(hook, " → ".join(names) or Text("nobody: the default answers", style="dim"))
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


def show_explained(explained: Explained, *, show_secrets: bool = False) -> None:
    """Print the request, each step, and the reply: byte for byte, but for the secrets in it."""
    console = Console(highlight=False)
    outcome, reply = explained.answer.outcome, explained.answer.reply
    _show_request(console, explained)
    console.print()
    table = Table(box=None, header_style="bold")
    for column in ("asked", "outcome", "ms", ""):
        table.add_column(column)
    for step in outcome.steps:
        style = {"decided": "green", "abstained": "dim"}.get(step.outcome, "red")
        table.add_row(
            step.plugin, Text(step.outcome, style=style), f"{step.ms:.2f}", printable(step.detail)
        )
    if outcome.decided_by == DEFAULT:
        table.add_row(DEFAULT, Text(DECIDED, style="green"), "", "no plugin decided")
    console.print(table)
    for note in explained.notes:
        console.print(Text(f"note: {printable(note)}", style="dim"), soft_wrap=True)
    for warning in outcome.decision.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))
    console.print()
    console.print(Text(f"HTTP {reply.status} {reply.content_type}", style="bold"))
    if reply.content_type == JSON:
        body, removed = (reply.body, []) if show_secrets else without_secrets(explained)
        print(body.decode())  # noqa: T201 - byte for byte, without wrapping
        if removed:
            names = ", ".join(removed)
            hint = f"not shown: {names}; --show-secrets prints the reply as it leaves"
            console.print(Text(hint, style="dim"))
    else:
        console.print(f"({len(reply.body)} bytes)")


def _show_request(console: Console, explained: Explained) -> None:
    console.print(Text(explained.endpoint, style="bold cyan"), Text(printable(explained.alias)))
    if explained.astray:
        console.print(Text(printable(explained.astray), style="bold red"), soft_wrap=True)
    facts, withheld = Redaction().request(explained.endpoint, explained.url.query, "")
    for name, value in facts.items():
        console.print(Text(f"  {name} = {printable(value)}", style="dim"))
    for name in withheld:
        console.print(Text(f"  {printable(name)} = (not shown)", style="dim"))
