"""Commands ``pexpolicy status`` and ``pexpolicy reload``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click

from pexpolicy.audit.rotation import LATE_S
from pexpolicy.cli.common import (
    EX_CONFIG,
    config_option,
    count,
    examples,
    fail,
    flag,
    format_duration,
    format_size,
    json_option,
    load_or_exit,
    print_json,
    refuse,
    usable,
    warn,
)
from pexpolicy.cli.http_client import NotAnsweredError, admin_url, ask, server_url
from pexpolicy.config.files import missing_hint
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.fleet.members import NOT_OURS, TIMEOUT_S, ask_all, document_of
from pexpolicy.server.reload_triggers import ask_for_reload
from pexpolicy.testing.report import BAD, GOOD, Cell, Line, Part, Table, print_parts
from pexpolicy.text import printable

Document = Mapping[str, Any]
WAIT = click.FloatRange(0.0, 86_400.0)
SILENT_S = 3600
"""Seconds without a call after which a node is marked."""
WITHOUT_CONFIG = "a server can be asked without it: pexpolicy status --url http://127.0.0.1:9107"


@click.command(
    epilog=examples(
        "pexpolicy status",
        "pexpolicy status --strict --json",
        "pexpolicy status --url https://policy.example.com:9107",
        "pexpolicy status --fleet --wait 60 --expect 9786f094e2794e33",
    )
)
@config_option
@click.option("--url", type=server_url, metavar="URL", help="The admin listener, if another one.")
@flag(
    "--strict",
    help="Exit with 1 also when something is degraded.",
)
@flag("--fleet", help="Show the servers of [fleet] instead.")
@click.option("--wait", type=WAIT, metavar="SECONDS", help="With --fleet: for all to agree.")
@click.option("--expect", metavar="HASH|VERSION", help="With --fleet: what all servers must have.")
@json_option
def status(
    config: Path,
    url: str | None,
    *,
    strict: bool,
    fleet: bool,
    wait: float | None,
    expect: str | None,
    as_json: bool,
) -> None:
    """Show a running server, and the nodes that called it.

    Exit code 1 when no server answers, it is not ready, or it has refused the present files or
    bundle; with --fleet, when one server does not answer, or they differ. SSL_CERT_FILE names the
    CA certificates to trust for an https:// URL, instead of those of the system.
    """
    if (url or strict) if fleet else (wait or expect):
        raise click.UsageError("--wait and --expect are for --fleet, --url and --strict are not")
    if fleet:
        hint = "the servers to ask are fleet.servers"
        sys.exit(show_fleet(load_or_exit(config, hint), wait or 0.0, expect, as_json=as_json))
    is_own, settings = url is None, None
    try:
        settings = usable(config)  # which may hold the token
        address = url or admin_url(settings)
    except ConfigError as error:
        if url is None:
            fail(error, WITHOUT_CONFIG)
        address = url
    try:
        document = fetch_status(address, settings, own=is_own)
    except NotAnsweredError as error:
        refuse(f"{address}: {error}" + "; another address: --url" * is_own, 1)
    if is_own and not is_same_config(config, document["config"]["path"]):
        theirs = printable(document["config"]["path"])
        warn(f"{address} is a server with the configuration {theirs}, not with {config}", "note")
    try:
        if as_json:
            print_json(document)
        else:
            show_status(document)
        degraded = degradations(document) if strict else []
    except KeyError as missing:
        text = f"it is of another version, whose status has no {missing}; --json shows what it has"
        refuse(f"{address}: {text}", 1)
    for text in degraded:
        click.secho(f"degraded: {printable(text)}", fg="red", err=True)
    refused = document["degraded"] or (document["bundle"] and document["bundle"]["problem"])
    is_current = document["config"]["last_reload_successful"] and not refused
    sys.exit(0 if document["ready"] and is_current and not degraded else 1)


def show_fleet(settings: Settings, wait: float, expected: str | None, *, as_json: bool) -> int:
    """Print what the servers of ``[fleet]`` say, and return the exit code.

    Ask again for ``wait`` seconds until they agree.
    """
    if not settings.fleet.servers:
        refuse(f"{settings.path}: fleet.servers is missing: list the admin listeners")
    end = time.monotonic() + wait
    while True:
        document = document_of(asyncio.run(ask_all(settings)), expected)
        if not document["differences"] or time.monotonic() >= end:
            break
        time.sleep(1.0)
    if as_json:
        print_json(document)
    else:
        names = ("server", "version", "policy", "since", "audit", "last call", "")
        print_parts([Table(names, map(_member, document["servers"]))])
    for text in document["differences"]:
        click.secho(printable(text), fg="red", err=True)
    return 1 if document["differences"] else 0


def _member(member: Document) -> tuple[Cell, ...]:
    times = [member["since"], member["last_call"]]
    since, last = (at and f"{format_duration(time.time() - at)} ago" for at in times)
    audit, lag = member["audit"], member["audit_lag"]
    if lag is not None:
        audit += f", in the database up to {format_duration(lag)} ago"
    trouble = member["silent"] or member["not_ready"] or member["refused"]
    policy = member["policy_hash"] + f" ({member['bundle']})" * bool(member["bundle"])
    names = member["instance"] or member["url"], member["version"], policy
    return *names, since or "", audit, last or "", (trouble, "red")


def is_same_config(config: Path, server_path: str) -> bool:
    """Return False if the server certainly has another configuration."""
    theirs = Path(server_path)
    if theirs.is_absolute():
        return theirs.resolve() == config.resolve()
    return theirs.name == config.name


def running_status(config: Path, settings: Settings) -> Document | None:
    """Return the status of the server that runs with a configuration."""
    if not settings.admin.enabled:
        return None
    try:
        document = fetch_status(admin_url(settings), settings, own=True)
    except NotAnsweredError:
        return None
    return document if is_same_config(config, document["config"]["path"]) else None


def fetch_status(address: str, settings: Settings | None, *, own: bool) -> Document:
    """Return the status of a server, asked with the token of the settings.

    Raises ``NotAnsweredError``.
    """
    token = settings.admin_token if settings is not None else None
    secret = None if token is None else token.get_secret_value()
    try:
        found: Document = json.loads(ask(f"{address}/status", TIMEOUT_S, secret, own=own))
        # Other programs say in a document of their own that they are ready.
        if isinstance(found["config"]["path"], str):
            return found
    except NotAnsweredError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
    except (ValueError, RecursionError, LookupError, TypeError):
        pass
    raise NotAnsweredError(NOT_OURS, HTTPStatus.NOT_FOUND)


def degradations(document: Document) -> list[str]:
    """Return what is wrong with a server that may be ready all the same."""
    names = ("audit", "bundle", "certificate", "config", "shared")
    audit, bundle, certificate, config, shared = (document[name] for name in names)
    found, lag = [*document["degraded"]], audit.get("ship_lag") or 0.0
    if not (found or config["last_reload_successful"]):
        found.append("the last reload was refused")
    for what, why in (
        ("bundle", bundle and bundle["problem"]),
        ("nothing is kept for a start with broken files", config["not_kept"]),
        ("audit", audit.get("status") != "healthy" and audit.get("status")),
        ("audit", lag > LATE_S and f"not in the database for {format_duration(lag)}"),
        ("certificate", certificate and certificate["problem"]),
        ("shared state", shared and not shared["available"] and shared["problem"]),
    ):
        found += [f"{what}: {why}"] * bool(why)
    for kind in ("source", "plugin"):
        for one in document[f"{kind}s"]:
            found += [f"{kind} {one['name']}: {text}" for text in _troubles(one)]
    return found


def _troubles(owner: Document) -> list[str]:
    """Return what is wrong with a plugin or a source."""
    found = ["circuit breaker open"] * bool(owner.get("breaker_open"))
    found += ["calls are stuck"] * bool(owner.get("has_stuck_calls"))
    for kind, form in (("data", "{} is not refreshed: {}"), ("jobs", "job {} failed: {}")):
        states = owner[kind].items()
        found += [form.format(name, one["problem"]) for name, one in states if one["problem"]]
    return [*found, *owner["failures"], *filter(None, [owner.get("problem")])]


# ---- on a terminal


def show_status(document: Document) -> None:
    """Print the document of ``/status``."""
    state = "ready" if document["ready"] else "not ready"
    reasons = "; ".join(document["not_ready_reasons"])
    up = f"up {format_duration(document['uptime'])}, {count(document['workers'], 'worker')}"
    head = f"pexpolicy {document['version']} {': '.join(filter(None, (state, reasons)))}, {up}"
    parts: list[Part] = [Line(head, GOOD if document["ready"] else BAD)]
    for names, rows in (
        (("", ""), _facts(document)),
        (("endpoint", "calls"), _calls(document)),
        (("plugin", "answers", "mean ms", "p99 ms", ""), map(_plugin, document["plugins"])),
        (("", ""), _reports(document)),
        (("node", "last call", "calls", "last refused"), map(_node, document["nodes"])),
    ):
        if listed := [*rows]:
            parts += [Line(""), Table(names, listed, ("mean ms", "p99 ms"))]
    print_parts(parts)


def _facts(document: Document) -> Iterator[tuple[str, Cell]]:
    config, audit, certificate = (document[name] for name in ("config", "audit", "certificate"))
    yield "configuration", f"{config['path']} ({config['policy_hash']})"
    yield "", f"activated {format_duration(config['age'])} ago"
    for text in (*degradations(document), *config["problems"]):
        yield "", (text, "red")
    for change in config["changes"]:
        yield "", change
    if bundle := document["bundle"]:
        yield "bundle", f"{bundle['version']} (sequence {bundle['sequence']}) of {bundle['source']}"
    if keys := config["restart_required"]:
        yield "", (f"restart required: {', '.join(keys)}", "yellow")
    parts = [f"{audit['records']} records"]
    if "lost" in audit:
        parts += [str(audit["status"]), f"{audit['lost']} lost"]
    if audit.get("free_bytes") is not None:
        parts.append(f"{format_size(audit['free_bytes'])} free")
    if audit.get("ship_lag") is not None:
        parts.append(f"in the database up to {format_duration(audit['ship_lag'])} ago")
    yield "audit", ", ".join(parts + [audit["problem"]] * bool(audit.get("problem")))
    if certificate is not None:
        ends = datetime.fromtimestamp(certificate["not_after"]).astimezone()
        yield "certificate", f"valid until {ends:%Y-%m-%d %H:%M %z}"
    yield "event loop", f"max lag {document['loop_lag'] * 1000:.0f} ms (last 60 s)"


def _calls(document: Document) -> Iterator[tuple[str, Cell]]:
    for endpoint, counts in document["endpoints"].items():
        yield endpoint, _counts(counts)
    if document["refused"]:
        yield "refused", (_counts(document["refused"]), "yellow")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def _plugin(plugin: Document) -> tuple[Cell, ...]:
    latency = plugin["latency"] or {"mean": 0.0, "p99": 0.0}
    seconds = latency["mean"], latency["p99"]
    figures = ["> 5000" if one is None else f"{one * 1000:.2f}" for one in seconds]
    name = f"{plugin['name']} {plugin['version']}"
    return name, _counts(plugin["calls"]), *figures, "shadow" * (plugin["mode"] == "shadow")


def _reports(document: Document) -> Iterator[tuple[Cell, Cell]]:
    """Yield the data and jobs of plugins and sources, and what plugins report by ``status``."""
    for owner in (*document["plugins"], *document["sources"]):
        jobs = {f"job {key}": state for key, state in owner["jobs"].items()}
        for key, value in {**owner["data"], **jobs, **(owner.get("status") or {})}.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield owner["name"], f"{key}: {text}"


def _node(node: Document) -> tuple[Cell, ...]:
    age, refused = node["age"], ""
    if node["refused_because"]:
        at = datetime.fromtimestamp(node["last_refused"]).astimezone()
        refused = f"{at:%H:%M:%S} {node['refused_because']}"
    last = "never" if age is None else f"{format_duration(age)} ago"
    style = "yellow" if age is None or age > SILENT_S else ""
    return node["node"], (last, style), str(node["calls"]), (refused, "red")


@click.command(
    epilog=examples("pexpolicy reload", "pexpolicy reload --config /etc/pexpolicy/config.toml")
)
@config_option
def reload(config: Path) -> None:
    """Reload the configuration of a running server.

    Exit code 0 if the new configuration is active, 78 if it is invalid and the server keeps the
    active one, 1 if no running server with this configuration was found.
    """
    try:
        results = ask_for_reload(config)
    except (OSError, ValueError) as error:
        refuse(f"{config}: cannot reach the server: {error}", 1)
    if not results or None in results:
        text = "the server ended during the reload"
        if not results:
            text = "no server runs with this configuration; start it with pexpolicy serve"
            if not config.exists():
                text = f"there is no such file{missing_hint(config)}; name another with --config"
        refuse(f"{config}: {text}", 1)
    done = [result for result in results if result is not None]
    for result in done:
        style = "green" if result.done else "red"
        click.secho(f"{config}: {printable(result)}", fg=style, err=not result.done)
        for change in result.changes:
            click.echo(f"  {printable(change)}")
        for problem in result.problems:
            click.echo(f"  {printable(problem)}", err=True)
        for note in result.notes:
            warn(printable(note))
    if not all(result.done for result in done):
        sys.exit(EX_CONFIG)
