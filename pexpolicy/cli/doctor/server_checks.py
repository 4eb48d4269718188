"""Checks of the running server: its configuration, what is degraded, and the nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pexpolicy import __version__
from pexpolicy.cli.doctor.findings import Finding
from pexpolicy.cli.status_display import HINTS, degradations, format_duration
from pexpolicy.text import printable

Document = Mapping[str, Any]
FAULTS = ("failed", "timed_out", "invalid", "busy")
"""Outcomes of a plugin that is at fault."""


def server_findings(document: Document, config_hash: str) -> Iterator[Finding]:
    """Yield the state of a server from its status document."""
    theirs = printable(str(document["version"]))
    if not document["ready"]:
        reasons = "; ".join(map(printable, document["not_ready_reasons"]))
        yield Finding("server", "error", f"not ready: {reasons}")
    else:
        yield Finding("server", "ok", f"ready, up {format_duration(document['uptime'])}")
    if theirs != __version__:
        text = f"it is version {theirs}, and {__version__} is installed"
        yield Finding("server", "warning", text, "restart it")
    if document["config"]["hash"] != config_hash:
        text = "it serves another configuration than the file has"
        yield Finding("server", "warning", text, "pexpolicy reload")
    for key in document["config"]["restart_required"]:
        yield Finding(
            "server", "warning", f"{printable(key)}: changed since its start", "restart it"
        )
    for text in degradations(document):
        yield Finding("server", "error", text, "pexpolicy status")
    for plugin in document["plugins"]:
        asked = sum(plugin["calls"].values())
        wrong = {name: plugin["calls"].get(name, 0) for name in FAULTS}
        if counts := ", ".join(f"{count} {name}" for name, count in wrong.items() if count):
            text = f"{printable(plugin['name'])}: {counts} of {asked} calls since the start"
            yield Finding("plugins", "warning", text, "pexpolicy audit tail names the causes")


def node_findings(document: Document) -> Iterator[Finding]:
    """Yield the nodes that called or were refused."""
    nodes = document["nodes"]
    if not nodes:
        text = "no node has called since the start"
        yield Finding("nodes", "warning", text, "is the profile assigned to a system location?")
    for node in nodes:
        address = printable(node["node"])
        if node["refused_because"] and (node["last_refused"] or 0) > (node["last_call"] or 0):
            because = printable(node["refused_because"])
            hint = HINTS.get(node["refused_because"], "")
            yield Finding("nodes", "error", f"{address} was refused: {because}", hint)
        elif node["age"] is not None:
            age = format_duration(node["age"])
            yield Finding("nodes", "ok", f"{address}: {node['calls']} calls, the last {age} ago")
