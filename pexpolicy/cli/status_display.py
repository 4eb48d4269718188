"""The status of a server on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pexpolicy.access.refusals import BUSY, HANDSHAKE_FAILED, NOT_ALLOWED, UNAUTHORISED
from pexpolicy.text import printable

MINUTE, HOUR, DAY = 60, 3600, 86400
MAX_COLUMNS = 4
"""Of a table of a plugin."""
Document = Mapping[str, Any]

_PROFILE = "compare its profile in Infinity"
HINTS = {
    NOT_ALLOWED: "is it missing in [access] networks?",
    HANDSHAKE_FAILED: "does its profile begin with https://, and does it trust the certificate?",
    UNAUTHORISED: "compare user and password of its profile in Infinity",
    BUSY: "compare user and password of its profile in Infinity",
    "unknown path": "compare the URL of its profile in Infinity",
}
"""What to check, by the reason for which a node was refused."""


def show_status(document: Document, silent: float) -> None:
    """Print the document of ``/status``; nodes without a call for ``silent`` seconds are listed."""
    # Callers and plugins choose some of the text, so none of it is read as markup.
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(_head(document))
    console.print()
    console.print(_parts(document))
    console.print()
    console.print(_calls(document))
    if document["plugins"]:
        console.print()
        console.print(_plugins(document["plugins"]))
        for plugin in document["plugins"]:
            for part in _plugin_status(plugin):
                console.print(part)
    if document["sources"]:
        console.print()
        console.print(_sources(document["sources"]))
    if document["nodes"]:
        console.print()
        console.print(_nodes(document["nodes"], silent))
        for line in _silent(document["nodes"], silent):
            console.print(Text(line, style="yellow"))


def degradations(document: Document) -> list[str]:
    """Return what is wrong with a server that may be ready all the same."""
    found = []
    if not document["config"]["last_reload_successful"]:
        found.append("the last reload was refused")
    audit, certificate = document["audit"], document["certificate"]
    if not _is_healthy(audit):
        found.append(f"audit: {audit['status']}")
    if certificate is not None and certificate["problem"]:
        found.append(f"certificate: {printable(certificate['problem'])}")
    for source in document["sources"]:
        found += [f"source {printable(source['name'])}: {text}" for text in _background(source)]
    for plugin in document["plugins"]:
        found += [f"plugin {plugin['name']}: {text}" for text in _troubles(plugin)]
    return found


def _head(document: Document) -> Text:
    reasons = document["not_ready_reasons"]
    ready = "ready" if document["ready"] else "not ready: " + "; ".join(reasons)
    workers = document["workers"]
    line = Text(f"pexpolicy {document['version']} ", style="bold")
    line.append(printable(ready), style="green" if document["ready"] else "red")
    uptime = format_duration(document["uptime"])
    line.append(f", up {uptime}, {workers} process{'es' * (workers != 1)}")
    return line


def _parts(document: Document) -> Table:
    config, certificate = document["config"], document["certificate"]
    table = Table(box=None, show_header=False)
    table.add_row("configuration", f"{printable(config['path'])} ({config['hash']})")
    table.add_row("", f"activated {format_duration(config['age'])} ago")
    if not config["last_reload_successful"]:
        table.add_row("", Text("the last reload was refused", style="red"))
        for problem in config["problems"]:
            table.add_row("", Text(printable(problem), style="red"))
    for change in config["changes"]:
        table.add_row("", printable(change))
    if keys := config["restart_required"]:
        text = f"restart required: {printable(', '.join(keys))}"
        table.add_row("", Text(text, style="yellow"))
    table.add_row("audit", _audit(document["audit"]))
    if certificate is not None:
        ends = datetime.fromtimestamp(certificate["not_after"]).astimezone()
        table.add_row("certificate", f"valid until {ends:%Y-%m-%d %H:%M %z}")
        if certificate["problem"]:
            table.add_row("", Text(printable(certificate["problem"]), style="red"))
    table.add_row("event loop", f"max lag {document['loop_lag'] * 1000:.0f} ms (last 60 s)")
    return table


def _audit(audit: Document) -> Text:
    parts = [f"{audit['records']} records"]
    if "lost" in audit:
        parts += [str(audit["status"]), f"{audit['lost']} lost"]
    if audit.get("free_bytes") is not None:
        parts.append(f"{format_size(audit['free_bytes'])} free")
    if audit.get("problem"):
        parts.append(printable(audit["problem"]))
    return Text(", ".join(parts), style="" if _is_healthy(audit) else "red")


def format_size(size: int) -> str:
    """Return a size on a disk, in GiB or, where that is less than one, in MiB."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def _is_healthy(audit: Document) -> bool:
    return bool(audit.get("status", "healthy") == "healthy")


def _calls(document: Document) -> Table:
    table = Table("endpoint", "calls", box=None, header_style="bold")
    for endpoint, counts in document["endpoints"].items():
        table.add_row(endpoint, _counts(counts) or Text("none", style="dim"))
    if document["refused"]:
        table.add_row("refused", Text(_counts(document["refused"]), style="yellow"))
    return table


def _plugins(plugins: list[Document]) -> Table:
    table = Table(box=None, header_style="bold")
    for name in ("plugin", "version", "answers"):
        table.add_column(name)
    for name in ("mean ms", "p99 ms"):
        table.add_column(name, justify="right")
    table.add_column("")
    for plugin in plugins:
        notes = ["shadow"] if plugin["mode"] == "shadow" else []
        latency = plugin["latency"]
        table.add_row(
            plugin["name"],
            plugin["version"],
            _counts(plugin["calls"]) or Text("none", style="dim"),
            *(_milliseconds(latency, key) for key in ("mean", "p99")),
            Text("; ".join(notes + _troubles(plugin)), style="red"),
        )
    return table


def _milliseconds(latency: Document | None, key: str) -> str:
    if latency is None:
        return "-"
    seconds = latency[key]
    return "> 5000" if seconds is None else f"{seconds * 1000:.2f}"


def _troubles(plugin: Document) -> list[str]:
    found = []
    if plugin["breaker_open"]:
        found.append("circuit breaker open")
    if plugin["has_stuck_calls"]:
        found.append("calls are stuck")
    found += _background(plugin)
    if plugin.get("problem"):
        found.append(printable(plugin["problem"]))
    return found


def _background(owner: Document) -> list[str]:
    """Return what is wrong with the background work of a plugin or a source."""
    data = {name: state["problem"] for name, state in owner["data"].items() if state["problem"]}
    found = [f"{printable(name)} is not refreshed: {printable(data[name])}" for name in data]
    jobs = {name: state["problem"] for name, state in owner["jobs"].items() if state["problem"]}
    found += [f"job {printable(name)} failed: {printable(jobs[name])}" for name in jobs]
    return [*found, *map(printable, owner["failures"])]


def _sources(sources: list[Document]) -> Table:
    table = Table("source", "driver", "", box=None, header_style="bold")
    for source in sources:
        ages = [f"{printable(name)}: {_age(state)}" for name, state in source["data"].items()]
        troubles = Text("; ".join(_background(source)), style="red")
        table.add_row(
            printable(source["name"]),
            printable(source["driver"]),
            Text("; ".join(ages) + "; " * bool(ages and troubles.plain)).append_text(troubles),
        )
    return table


def _age(data: Document) -> str:
    age = "none yet" if data["age"] is None else f"{format_duration(data['age'])} old"
    return f"{age}, refreshed every {format_duration(data['every'])}"


def _plugin_status(plugin: Document) -> Iterator[RenderableType]:
    """Yield what a plugin reports by its hook ``status``, as lines and small tables."""
    status = plugin.get("status") or {}
    if not (status or plugin["data"] or plugin["jobs"]):
        return
    yield Text(f"\n {printable(plugin['name'])}:", style="bold")
    for name, data in plugin["data"].items():
        yield Text(f"   {printable(name)}: {_age(data)}")
    for name, job in plugin["jobs"].items():
        age, every = job["last_run_age"], format_duration(job["every"])
        last = "has not run yet" if age is None else f"ran {format_duration(age)} ago"
        yield Text(f"   job {printable(name)}: {last}, every {every}, once per {job['once_per']}")
    if _is_table(status):
        yield Padding(_small_table(status), (0, 0, 0, 2))
        return
    for key, value in status.items():
        rows = dict(enumerate(value, 1)) if isinstance(value, list) else value
        if isinstance(rows, Mapping) and _is_table(rows):
            yield Text(f"   {_words(key)}:")
            yield Padding(_small_table(rows), (0, 0, 0, 4))
        elif value not in (None, {}, []):
            yield Text(f"   {_words(key)}: {_flat(value)}")


def _is_table(rows: Mapping[Any, Any]) -> bool:
    return bool(rows) and all(isinstance(row, Mapping) for row in rows.values())


def _small_table(rows: Mapping[Any, Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    if len(columns) <= MAX_COLUMNS:
        table = Table("", *map(_words, columns), box=None, header_style="dim")
        for name, row in rows.items():
            table.add_row(printable(name), *(_flat(row.get(key)) for key in columns))
        return table
    # It would be wider than the terminal.
    table = Table(box=None, show_header=False)
    for name, row in rows.items():
        filled = {_words(key): value for key, value in row.items() if value not in ("", None)}
        table.add_row(printable(name), ", ".join(f"{key} {_flat(filled[key])}" for key in filled))
    return table


def _words(key: object) -> str:
    """Return a key of JSON as words."""
    return printable(key).replace("_", " ")


def _flat(value: object) -> str:
    """Return a value of JSON on one line, without brackets and quotes."""
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(key)} {_flat(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_flat, value))
    return printable(value)


def _nodes(nodes: list[Document], silent: float) -> Table:
    columns = ("node", "last call", "calls", "last refused")
    table = Table(*columns, box=None, header_style="bold")
    for node in nodes:
        age = node["age"]
        last = "never" if age is None else f"{format_duration(age)} ago"
        reason = node["refused_because"]
        table.add_row(
            printable(node["node"]),
            Text(last, style="yellow" if age is None or age > silent else ""),
            str(node["calls"]),
            Text(f"{_clock(node['last_refused'])} {reason}", style="red") if reason else "",
        )
    return table


def _silent(nodes: list[Document], silent: float) -> list[str]:
    """Return a sentence for each node that is silent, or whose requests were all refused."""
    lines = []
    for node in nodes:
        name, age = printable(node["node"]), node["age"]
        if age is None:
            reason = node["refused_because"]
            hint = HINTS.get(reason, _PROFILE)
            lines.append(f"{name}: no successful call ({reason}): {hint}")
        elif age > silent:
            duration = format_duration(age)
            lines.append(f"{name}: no call for {duration}: is its URL still this server?")
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%H:%M:%S}"


def format_duration(seconds: float) -> str:
    """Return a duration in one or two units."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} min"
    if seconds < DAY:
        return f"{seconds // HOUR:.0f} h {seconds % HOUR // MINUTE:.0f} min"
    return f"{seconds // DAY:.0f} d {seconds % DAY // HOUR:.0f} h"
