"""Command ``pexpolicy status``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click

from pexpolicy.access.refusals import BUSY, HANDSHAKE_FAILED, NOT_ALLOWED, UNAUTHORISED
from pexpolicy.cli.common import config_option, examples, json_option, load_or_exit, refuse, warn
from pexpolicy.cli.http_client import NotAnsweredError, ServerUrl, admin_url, ask
from pexpolicy.cli.text import (
    Cell,
    as_words,
    format_duration,
    format_size,
    key_words,
    print_lines,
    print_table,
    screen,
)
from pexpolicy.config.loader import load
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.text import printable

Document = Mapping[str, Any]
TIMEOUT_S = 5.0
SILENT_S = 3600
"""Seconds without a call after which a node is listed as silent."""
ADMIN_PORT_HINT = "the admin listener is at admin.port, 9107 unless configured"
OTHER_PORT_HINT = "if it was started with --admin-port, or runs elsewhere, name it with --url"
WITHOUT_CONFIG = "a server can be asked without it: pexpolicy status --url http://127.0.0.1:9107"
_PASSWORD = "compare user and password of its profile in Infinity"  # noqa: S105 - it is none
HINTS = {
    NOT_ALLOWED: "is it missing in [access] networks?",
    HANDSHAKE_FAILED: "does its profile begin with https://, and does it trust the certificate?",
    UNAUTHORISED: _PASSWORD,
    BUSY: _PASSWORD,
    "unknown path": "compare the URL of its profile in Infinity",
}
"""What to check, by the reason for which a node was refused."""


@click.command(
    epilog=examples(
        "pexpolicy status",
        "pexpolicy status --strict --json",
        "pexpolicy status --url https://policy.example.com:9107",
    )
)
@config_option
@click.option("--url", type=ServerUrl(), help="The admin listener, instead of the configured one.")
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with 1 also when the last reload was refused or something is degraded.",
)
@json_option
def status(config: Path, url: str | None, *, strict: bool, as_json: bool) -> None:
    """Show the state of a running server, and the nodes that have stopped calling.

    Exit code 1 when no server answers or it is not ready. SSL_CERT_FILE names the CA certificates
    to trust for an https:// URL, instead of those of the system.
    """
    settings = load_or_exit(config, WITHOUT_CONFIG) if url is None else _settings_for_token(config)
    address = url or admin_url(settings or load_or_exit(config, WITHOUT_CONFIG))
    try:
        document = fetch_status(address, settings)
    except NotAnsweredError as error:
        hint = f"; {OTHER_PORT_HINT}" if url is None and error.status is None else ""
        refuse(f"{address}: {error}{hint}", 1)
    if url is None and not is_same_config(config, document["config"]["path"]):
        theirs = printable(document["config"]["path"])
        text = f"{address} is a server with the configuration {theirs}, not with {config}"
        warn(f"{text}: give each an [admin] port of its own", "note")
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        show_status(document)
    degraded = degradations(document) if strict else []
    for text in degraded:
        click.secho(f"degraded: {printable(text)}", fg="red", err=True)
    sys.exit(0 if document["ready"] and not degraded else 1)


def _settings_for_token(config: Path) -> Settings | None:
    """Return the configuration that may hold the token; it may be missing or invalid."""
    if not config.exists():
        return None
    try:
        return load(config)
    except ConfigError as error:
        if error.salvaged is None:
            warn(f"{config} cannot be read, so no token is sent", "note")
        return error.salvaged


def is_same_config(config: Path, server_path: str) -> bool:
    """Return False if the server certainly has another configuration.

    A relative path of the server is compared with the end of ours.
    """
    if Path(server_path).is_absolute():
        return Path(server_path).resolve() == config.resolve()
    end = [part for part in Path(server_path).parts if part != ".."]
    return list(config.absolute().parts[-len(end) :]) == end


def running_status(config: Path, settings: Settings) -> dict[str, Any] | None:
    """Return the status of the server that runs with a configuration."""
    if not settings.admin.enabled:
        return None
    try:
        document = fetch_status(admin_url(settings), settings)
    except NotAnsweredError:
        return None
    return document if is_same_config(config, document["config"]["path"]) else None


def fetch_status(address: str, settings: Settings | None) -> dict[str, Any]:
    """Return the status document of a server, asked with the token of the settings.

    Raises ``NotAnsweredError``.
    """
    token = settings.admin_token if settings is not None else None
    secret = token.get_secret_value() if token is not None else None
    document: Any = None
    try:
        document = json.loads(ask(f"{address}/status", TIMEOUT_S, secret))
        # Other programs say in a document of their own that they are ready.
        if isinstance(document["config"]["path"], str):
            return dict(document)
    except NotAnsweredError as error:
        hints = {
            HTTPStatus.UNAUTHORIZED: "it requires the token of [admin]",
            HTTPStatus.NOT_FOUND: ADMIN_PORT_HINT,
        }
        if error.status in hints:
            text = f"{error}: {hints[HTTPStatus(error.status)]}"
            raise NotAnsweredError(text, error.status) from None
        raise
    except (ValueError, RecursionError, LookupError, TypeError):
        pass
    text = f"the reply is not the status of a server: {ADMIN_PORT_HINT}"
    raise NotAnsweredError(text, HTTPStatus.OK)


# ---- on a terminal


def show_status(document: Document, silent: float = SILENT_S) -> None:
    """Print the document of ``/status``; nodes without a call for ``silent`` seconds are listed."""
    console = screen()
    reasons, workers = "; ".join(document["not_ready_reasons"]), document["workers"]
    state = "ready" if document["ready"] else f"not ready: {reasons}"
    up = f"up {format_duration(document['uptime'])}, {workers} process{'es' * (workers != 1)}"
    style = "green" if document["ready"] else "bold red"
    print_lines(console, (f"pexpolicy {document['version']} {state}, {up}", style))
    nodes, figures = document["nodes"], ("mean ms", "p99 ms")
    for names, rows in (
        (("", ""), _facts(document)),
        (("endpoint", "calls"), _calls(document)),
        (("plugin", "version", "answers", *figures, ""), map(_plugin, document["plugins"])),
        (("source", "driver", ""), map(_source, document["sources"])),
        (("node", "last call", "calls", "last refused"), (_node(node, silent) for node in nodes)),
    ):
        if listed := [*rows]:
            console.print()
            print_table(console, names, listed, figures)
        if names[0] == "plugin":
            for plugin in document["plugins"]:
                print_lines(console, *_report(plugin))
    print_lines(console, *((text, "yellow") for text in _silences(nodes, silent)))


def degradations(document: Document) -> list[str]:
    """Return what is wrong with a server that may be ready all the same."""
    found = []
    if not document["config"]["last_reload_successful"]:
        found.append("the last reload was refused")
    audit, certificate = document["audit"], document["certificate"]
    if not _is_healthy(audit):
        found.append(f"audit: {audit['status']}")
    if certificate is not None and certificate["problem"]:
        found.append(f"certificate: {certificate['problem']}")
    for source in document["sources"]:
        found += [f"source {source['name']}: {text}" for text in _background(source)]
    for plugin in document["plugins"]:
        found += [f"plugin {plugin['name']}: {text}" for text in _troubles(plugin)]
    return found


def _facts(document: Document) -> Iterator[tuple[str, Cell]]:
    config, audit, certificate = (document[name] for name in ("config", "audit", "certificate"))
    yield "configuration", f"{config['path']} ({config['hash']})"
    yield "", f"activated {format_duration(config['age'])} ago"
    if not config["last_reload_successful"]:
        for problem in ("the last reload was refused", *config["problems"]):
            yield "", (problem, "red")
    for change in config["changes"]:
        yield "", change
    if keys := config["restart_required"]:
        yield "", (f"restart required: {', '.join(keys)}", "yellow")
    parts = [f"{audit['records']} records"]
    if "lost" in audit:
        parts += [str(audit["status"]), f"{audit['lost']} lost"]
    if audit.get("free_bytes") is not None:
        parts.append(f"{format_size(audit['free_bytes'])} free")
    if audit.get("problem"):
        parts.append(audit["problem"])
    yield "audit", (", ".join(parts), "" if _is_healthy(audit) else "red")
    if certificate is not None:
        ends = datetime.fromtimestamp(certificate["not_after"]).astimezone()
        yield "certificate", f"valid until {ends:%Y-%m-%d %H:%M %z}"
        if certificate["problem"]:
            yield "", (certificate["problem"], "red")
    yield "event loop", f"max lag {document['loop_lag'] * 1000:.0f} ms (last 60 s)"


def _is_healthy(audit: Document) -> bool:
    return bool(audit.get("status", "healthy") == "healthy")


def _calls(document: Document) -> Iterator[tuple[str, Cell]]:
    for endpoint, counts in document["endpoints"].items():
        yield endpoint, _counts(counts) or ("none", "dim")
    if document["refused"]:
        yield "refused", (_counts(document["refused"]), "yellow")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _plugin(plugin: Document) -> tuple[Cell, ...]:
    latency, notes = plugin["latency"], ["shadow"] * (plugin["mode"] == "shadow")
    figures = ["-", "-"]
    if latency is not None:
        seconds = latency["mean"], latency["p99"]
        figures = ["> 5000" if one is None else f"{one * 1000:.2f}" for one in seconds]
    answers: Cell = _counts(plugin["calls"]) or ("none", "dim")
    problems = "; ".join(notes + _troubles(plugin))
    return plugin["name"], plugin["version"], answers, *figures, (problems, "red")


def _troubles(plugin: Document) -> list[str]:
    found = ["circuit breaker open"] * bool(plugin["breaker_open"])
    found += ["calls are stuck"] * bool(plugin["has_stuck_calls"])
    return [*found, *_background(plugin), *filter(None, [plugin.get("problem")])]


def _background(owner: Document) -> list[str]:
    """Return what is wrong with the background work of a plugin or a source."""
    found = [
        form.format(name, state["problem"])
        for kind, form in (("data", "{} is not refreshed: {}"), ("jobs", "job {} failed: {}"))
        for name, state in owner[kind].items()
        if state["problem"]
    ]
    return [*found, *owner["failures"]]


def _source(source: Document) -> tuple[Cell, ...]:
    troubles = _background(source)
    texts = [f"{name}: {_age(data)}" for name, data in source["data"].items()]
    style = "red" if troubles else ""
    return source["name"], source["driver"], ("; ".join(texts + troubles), style)


def _age(data: Document) -> str:
    age = "none yet" if data["age"] is None else f"{format_duration(data['age'])} old"
    return f"{age}, refreshed every {format_duration(data['every'])}"


def _report(plugin: Document) -> Iterator[Cell]:
    """Yield what a plugin reports by its hook ``status``, as lines."""
    status = plugin.get("status") or {}
    if not (status or plugin["data"] or plugin["jobs"]):
        return
    yield ""
    yield f" {plugin['name']}:", "bold"
    for name, data in plugin["data"].items():
        yield f"   {name}: {_age(data)}"
    for name, job in plugin["jobs"].items():
        age, every = job["last_run_age"], format_duration(job["every"])
        last = "has not run yet" if age is None else f"ran {format_duration(age)} ago"
        yield f"   job {name}: {last}, every {every}, once per {job['once_per']}"
    for name, value in status.items():
        if value not in (None, {}, []):
            shown = name if isinstance(value, Mapping) else key_words(name)
            yield f"   {shown}: {as_words(value)}"


def _node(node: Document, silent: float) -> tuple[Cell, ...]:
    age, refused = node["age"], ""
    if node["refused_because"]:
        at = datetime.fromtimestamp(node["last_refused"]).astimezone()
        refused = f"{at:%H:%M:%S} {node['refused_because']}"
    last = "never" if age is None else f"{format_duration(age)} ago"
    style = "yellow" if age is None or age > silent else ""
    return node["node"], (last, style), str(node["calls"]), (refused, "red")


def _silences(nodes: list[Document], silent: float) -> Iterator[str]:
    """Yield a sentence for each node that is silent, or whose requests were all refused."""
    for node in nodes:
        name, age, reason = node["node"], node["age"], node["refused_because"]
        if age is None:
            hint = HINTS.get(reason, "compare its profile in Infinity")
            yield f"{name}: no successful call ({reason}): {hint}"
        elif age > silent:
            yield f"{name}: no call for {format_duration(age)}: is its URL still this server?"
