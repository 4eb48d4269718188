"""The status of a server on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pexpolicy.access.refusals import BUSY, HANDSHAKE_FAILED, NOT_ALLOWED, UNAUTHORISED
from pexpolicy.cli.text import as_words, format_duration, format_size, key_words, screen, table_of
from pexpolicy.text import printable

Document = Mapping[str, Any]

_PASSWORD = "compare user and password of its profile in Infinity"  # noqa: S105 - it is none
HINTS = {
    NOT_ALLOWED: "is it missing in [access] networks?",
    HANDSHAKE_FAILED: "does its profile begin with https://, and does it trust the certificate?",
    UNAUTHORISED: _PASSWORD,
    BUSY: _PASSWORD,
    "unknown path": "compare the URL of its profile in Infinity",
}
"""What to check, by the reason for which a node was refused."""


def show_status(document: Document, silent: float) -> None:
    """Print the document of ``/status``; nodes without a call for ``silent`` seconds are listed."""
    console = screen()
    reasons = "; ".join(document["not_ready_reasons"])
    style = "green" if document["ready"] else "red"
    console.print(
        Text.assemble(
            (f"pexpolicy {document['version']} ", "bold"),
            (printable("ready" if document["ready"] else f"not ready: {reasons}"), style),
            f", up {format_duration(document['uptime'])}, "
            f"{document['workers']} process{'es' * (document['workers'] != 1)}",
        )
    )
    _print(console, [_table(("", ""), _facts(document))])
    _print(console, [_table(("endpoint", "calls"), _calls(document))])
    if plugins := document["plugins"]:
        _print(console, [_plugins(plugins)])
        for plugin in plugins:
            for part in _report(plugin):
                console.print(part)
    if sources := document["sources"]:
        _print(console, [_table(("source", "driver", ""), map(_source, sources))])
    if nodes := document["nodes"]:
        columns = ("node", "last call", "calls", "last refused")
        silences = (Text(line, "yellow") for line in _silences(nodes, silent))
        _print(console, [_table(columns, (_node(node, silent) for node in nodes)), *silences])


def _print(console: Console, parts: Iterable[RenderableType]) -> None:
    console.print()
    for part in parts:
        console.print(part)


def _table(names: tuple[str, ...], rows: Iterable[tuple[str | Text, ...]]) -> Table:
    table = table_of(*names)
    for row in rows:
        table.add_row(*row)
    return table


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


def _facts(document: Document) -> Iterator[tuple[str, str | Text]]:
    config, certificate = document["config"], document["certificate"]
    yield "configuration", f"{printable(config['path'])} ({config['hash']})"
    yield "", f"activated {format_duration(config['age'])} ago"
    if not config["last_reload_successful"]:
        for problem in ("the last reload was refused", *config["problems"]):
            yield "", Text(printable(problem), "red")
    for change in config["changes"]:
        yield "", printable(change)
    if keys := config["restart_required"]:
        yield "", Text(f"restart required: {printable(', '.join(keys))}", "yellow")
    audit = document["audit"]
    parts = [f"{audit['records']} records"]
    if "lost" in audit:
        parts += [str(audit["status"]), f"{audit['lost']} lost"]
    if audit.get("free_bytes") is not None:
        parts.append(f"{format_size(audit['free_bytes'])} free")
    if audit.get("problem"):
        parts.append(printable(audit["problem"]))
    yield "audit", Text(", ".join(parts), "" if _is_healthy(audit) else "red")
    if certificate is not None:
        ends = datetime.fromtimestamp(certificate["not_after"]).astimezone()
        yield "certificate", f"valid until {ends:%Y-%m-%d %H:%M %z}"
        if certificate["problem"]:
            yield "", Text(printable(certificate["problem"]), "red")
    yield "event loop", f"max lag {document['loop_lag'] * 1000:.0f} ms (last 60 s)"


def _is_healthy(audit: Document) -> bool:
    return bool(audit.get("status", "healthy") == "healthy")


def _calls(document: Document) -> Iterator[tuple[str, str | Text]]:
    for endpoint, counts in document["endpoints"].items():
        yield endpoint, _counts(counts)
    if document["refused"]:
        yield "refused", Text(_counts(document["refused"]).plain, "yellow")


def _counts(counts: Mapping[str, int]) -> Text:
    text = ", ".join(f"{number} {name}" for name, number in counts.items())
    return Text(text) if text else Text("none", "dim")


def _plugins(plugins: list[Document]) -> Table:
    figures = ("mean ms", "p99 ms")
    table = table_of("plugin", "version", "answers", *figures, "", right=figures)
    for plugin in plugins:
        notes = ["shadow"] * (plugin["mode"] == "shadow")
        table.add_row(
            plugin["name"],
            plugin["version"],
            _counts(plugin["calls"]),
            *(_milliseconds(plugin["latency"], key) for key in ("mean", "p99")),
            Text("; ".join(notes + _troubles(plugin)), "red"),
        )
    return table


def _milliseconds(latency: Document | None, key: str) -> str:
    if latency is None:
        return "-"
    return "> 5000" if latency[key] is None else f"{latency[key] * 1000:.2f}"


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
    found = [
        form.format(printable(name), printable(state["problem"]))
        for kind, form in (("data", "{} is not refreshed: {}"), ("jobs", "job {} failed: {}"))
        for name, state in owner[kind].items()
        if state["problem"]
    ]
    return [*found, *map(printable, owner["failures"])]


def _source(source: Document) -> tuple[str, str, Text]:
    ages = "; ".join(f"{printable(name)}: {_age(data)}" for name, data in source["data"].items())
    troubles = "; ".join(_background(source))
    text = Text.assemble(ages, "; " * bool(ages and troubles), (troubles, "red"))
    return printable(source["name"]), printable(source["driver"]), text


def _age(data: Document) -> str:
    age = "none yet" if data["age"] is None else f"{format_duration(data['age'])} old"
    return f"{age}, refreshed every {format_duration(data['every'])}"


def _report(plugin: Document) -> Iterator[Text]:
    """Yield what a plugin reports by its hook ``status``, as lines."""
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
    yield from _lines(status, 3)


def _lines(values: Mapping[Any, Any], margin: int) -> Iterator[Text]:
    """Yield a line for each value, and for each row of a value with rows."""
    are_rows = all(map(_is_mapping, values.values()))
    for key, value in values.items():
        name = " " * margin + (printable(key) if are_rows else key_words(key))
        rows = dict(enumerate(value, 1)) if isinstance(value, list) else value
        if rows and isinstance(rows, Mapping) and all(map(_is_mapping, rows.values())):
            yield Text(f"{name}:")
            yield from _lines(rows, margin + 2)
        elif value not in (None, {}, []):
            yield Text(f"{name}: {as_words(value)}")


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _node(node: Document, silent: float) -> tuple[str | Text, ...]:
    age, reason = node["age"], node["refused_because"]
    last = "never" if age is None else f"{format_duration(age)} ago"
    refused = ""
    if reason:
        refused = f"{datetime.fromtimestamp(node['last_refused']).astimezone():%H:%M:%S} {reason}"
    return (
        printable(node["node"]),
        Text(last, "yellow" if age is None or age > silent else ""),
        str(node["calls"]),
        Text(refused, "red"),
    )


def _silences(nodes: list[Document], silent: float) -> Iterator[str]:
    """Yield a sentence for each node that is silent, or whose requests were all refused."""
    for node in nodes:
        name, age, reason = printable(node["node"]), node["age"], node["refused_because"]
        if age is None:
            hint = HINTS.get(reason, "compare its profile in Infinity")
            yield f"{name}: no successful call ({reason}): {hint}"
        elif age > silent:
            yield f"{name}: no call for {format_duration(age)}: is its URL still this server?"
