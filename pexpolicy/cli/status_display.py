"""The status of a server on a terminal."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pexpolicy.access.refusals import BUSY, HANDSHAKE_FAILED, NOT_ALLOWED, UNAUTHORISED
from pexpolicy.text import printable

MINUTE, HOUR, DAY = 60, 3600, 86400
Told = dict[str, Any]

_PROFILE = "compare its profile in Infinity"
_HINTS = {
    NOT_ALLOWED: "is it missing in [access] networks?",
    HANDSHAKE_FAILED: "does its profile begin with https://, and does it trust the certificate?",
    UNAUTHORISED: "compare user and password of its profile in Infinity",
    BUSY: "compare user and password of its profile in Infinity",
    "unknown path": "compare the URL of its profile in Infinity",
}
"""Where to look, by why a node was refused."""


def show_status(told: Told, silent: float) -> None:
    """Print the document of ``/status``; nodes without a call for ``silent`` seconds are named."""
    console = Console(highlight=False)
    console.print(_head(told))
    console.print()
    console.print(_parts(told))
    console.print()
    console.print(_calls(told))
    if told["plugins"]:
        console.print()
        console.print(_plugins(told["plugins"]))
    if told["nodes"]:
        console.print()
        console.print(_nodes(told["nodes"], silent))
        for line in _silent(told["nodes"], silent):
            console.print(Text(line, style="yellow"))


def _head(told: Told) -> Text:
    ready = "ready" if told["ready"] else "not ready: " + "; ".join(told["unready"])
    workers = told["workers"]
    line = Text(f"pexpolicy {told['version']} ", style="bold")
    line.append(printable(ready), style="green" if told["ready"] else "red")
    line.append(f", since {lasting(told['uptime'])}, {workers} process{'es' * (workers != 1)}")
    return line


def _parts(told: Told) -> Table:
    config, audit, certificate = told["config"], told["audit"], told["certificate"]
    table = Table(box=None, show_header=False)
    table.add_row("configuration", f"{printable(config['path'])} ({config['hash']})")
    table.add_row("", f"taken up {lasting(config['age'])} ago")
    if not config["last_reload_successful"]:
        table.add_row("", Text("the last reload was refused", style="red"))
        for problem in config["problems"]:
            table.add_row("", Text(printable(problem), style="red"))
    if waiting := config.get("awaiting_restart"):
        keys = printable(", ".join(waiting))
        table.add_row("", Text(f"awaiting a restart: {keys}", style="yellow"))
    said = [f"{audit['records']} records"]
    if "lost" in audit:
        said += [str(audit["status"]), f"{audit['lost']} lost"]
    if audit.get("free_bytes") is not None:
        said.append(f"{audit['free_bytes'] / 2**30:.1f} GiB free")
    if audit.get("problem"):
        said.append(printable(audit["problem"]))
    bad = audit.get("status", "healthy") != "healthy"
    table.add_row("audit", Text(", ".join(said), style="red" if bad else ""))
    if certificate is not None:
        ends = datetime.fromtimestamp(certificate["not_after"]).astimezone()
        table.add_row("certificate", f"valid until {ends:%Y-%m-%d %H:%M %z}")
        if certificate["problem"]:
            table.add_row("", Text(printable(certificate["problem"]), style="red"))
    table.add_row("event loop", f"late by {told['loop_lag'] * 1000:.0f} ms at most, of late")
    return table


def _calls(told: Told) -> Table:
    table = Table("endpoint", "calls", box=None, header_style="bold")
    for endpoint, counts in told["endpoints"].items():
        table.add_row(endpoint, _counts(counts) or Text("none", style="dim"))
    if told["refused"]:
        table.add_row("refused", Text(_counts(told["refused"]), style="yellow"))
    return table


def _plugins(plugins: list[Told]) -> Table:
    table = Table("plugin", "version", "answers", "", box=None, header_style="bold")
    for plugin in plugins:
        table.add_row(
            plugin["name"],
            plugin["version"],
            _counts(plugin["calls"]) or Text("none", style="dim"),
            Text("; ".join(_troubles(plugin)), style="red"),
        )
        for name, value in (plugin.get("status") or {}).items():
            shown = value if isinstance(value, str) else json.dumps(value)
            table.add_row(f"  {printable(name)}", "", printable(shown))
    return table


def _troubles(plugin: Told) -> list[str]:
    found = []
    if plugin["mode"] == "shadow":
        found.append("shadow")
    if plugin["breaker_open"]:
        found.append("its circuit breaker is open")
    if plugin["has_calls_that_do_not_come_back"]:
        found.append("calls have not come back")
    if plugin.get("problem"):
        found.append(printable(plugin["problem"]))
    return found


def _nodes(nodes: list[Told], silent: float) -> Table:
    columns = ("node", "last call", "calls", "last refused")
    table = Table(*columns, box=None, header_style="bold")
    for node in nodes:
        age = node["age"]
        last = "never" if age is None else f"{lasting(age)} ago"
        because = node["refused_because"]
        table.add_row(
            printable(node["node"]),
            Text(last, style="yellow" if age is None or age > silent else ""),
            str(node["calls"]),
            Text(f"{_clock(node['last_refused'])} {because}", style="red") if because else "",
        )
    return table


def _silent(nodes: list[Told], silent: float) -> list[str]:
    """A sentence for each node that has fallen silent, or that was only ever refused."""
    lines = []
    for node in nodes:
        name, age = printable(node["node"]), node["age"]
        if age is None:
            because = node["refused_because"]
            hint = _HINTS.get(because, _PROFILE)
            lines.append(f"{name} was never answered ({because}): {hint}")
        elif age > silent:
            lines.append(f"{name} has not called for {lasting(age)}: is its URL still this server?")
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%H:%M:%S}"


def lasting(seconds: float) -> str:
    """A duration in one or two units, as people say it."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} min"
    if seconds < DAY:
        return f"{seconds // HOUR:.0f} h {seconds % HOUR // MINUTE:.0f} min"
    return f"{seconds // DAY:.0f} d {seconds % DAY // HOUR:.0f} h"
