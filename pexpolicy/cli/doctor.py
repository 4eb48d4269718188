"""Command ``pexpolicy doctor``: what ``check`` cannot see of a machine and its running server."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from pexpolicy.access.certificates import WARNING_DAYS, CertificateFiles, load
from pexpolicy.access.warnings import core_paths, path_findings, preflight_problems
from pexpolicy.audit.targets import free_space
from pexpolicy.cli.common import (
    as_option,
    build,
    config_option,
    count,
    examples,
    file_user,
    format_duration,
    format_size,
    json_option,
    print_json,
)
from pexpolicy.cli.status import Document, degradations, running_status
from pexpolicy.config.files import FileUser, NamedPath
from pexpolicy.config.loader import load as load_config
from pexpolicy.config.places import grouped
from pexpolicy.config.problems import ConfigWarning, dotted_key
from pexpolicy.config.secrets import SecretError
from pexpolicy.config.settings import ConfigError, Settings
from pexpolicy.errors import describe_network_error
from pexpolicy.plugins.binding import checks_of
from pexpolicy.policy import BuildContext, Policy
from pexpolicy.server.reload_triggers import sockets_of
from pexpolicy.testing.report import BAD, GOOD, QUIET, WARNING, Line, Table, print_parts

STYLES = {
    "ok": ("+", GOOD),
    "skipped": ("-", QUIET),
    "warning": ("!", WARNING),
    "error": ("x", BAD),
}
"""Symbol and colour of each state."""
COLOURS = {"subject": "bold", "advice": "cyan"}


class Finding(NamedTuple):
    """A subject, its state, what was seen, and what to do."""

    subject: str
    state: str
    text: str
    advice: str = ""


@click.command(epilog=examples("pexpolicy doctor", "pexpolicy doctor --json"))
@config_option
@as_option
@json_option
def doctor(config: Path, user: str | None, *, as_json: bool) -> None:
    """Check files, certificate, ports, disk and server.

    Warnings of the configuration are those of pexpolicy check. Exit code 1 for an error, 0 with
    warnings only. SSL_CERT_FILE names the CA that the nodes trust, if not that of tls/ca.pem.
    """
    states = print_findings([*findings(config, file_user(config, user))], as_json=as_json)
    sys.exit(1 if states["error"] else 0)


def print_findings(found: Sequence[Any], *, as_json: bool) -> Counter[str]:
    """Print named tuples with a ``state`` of ``STYLES``; return how many have each state."""
    states, rows = Counter(one.state for one in found), [one._asdict() for one in found]
    if as_json:
        print_json(rows)
    else:
        cells = [
            [
                STYLES[row["state"]],
                *((row[key], COLOURS.get(key, "")) for key in row if key != "state"),
            ]
            for row in rows
        ]
        summary = f"{count(states['error'], 'error')}, {count(states['warning'], 'warning')}"
        columns = len(cells[0]) if cells else 0
        print_parts([Table([""] * columns, cells), Line(""), Line(summary)])
    return states


def findings(config: Path, user: FileUser) -> Iterator[Finding]:
    """Yield what is wrong with a configuration and its machine, and what is right."""
    policy_hash, settings, paths = "", None, list[NamedPath]()
    try:
        settings = load_config(config)
        policy = build(config, preflight_problems, BuildContext(file_user=user))
    except ConfigError as error:
        settings = settings or error.salvaged
        for problem in grouped(error.problems, config):
            yield Finding("configuration", "error", str(problem), "pexpolicy check")
    else:
        paths = policy.paths
        policy_hash, names = policy.policy_hash, [plugin.name for plugin in policy.plugins]
        warnings = len(grouped(policy.warnings, config))
        listed = ", ".join(names) or "none"
        text = f"{config} is valid, {count(warnings, 'warning')}; plugins: {listed}"
        state, advice = ("warning", "pexpolicy check") if warnings else ("ok", "")
        yield Finding("configuration", state, text, advice)
        yield from _of_plugins(policy)
        policy.close()
    if settings is None:
        return
    paths = paths or [*core_paths(settings)]
    paths += (NamedPath(socket.parent, (), "other") for socket in sockets_of(config))
    found = path_findings(paths, user)
    document = running_status(config, settings)
    for subject, check in {
        "file modes": (("error", one.text) for one in found if isinstance(one, ConfigWarning)),
        "ports": _ports(settings, is_running=document is not None),
        "certificate": _certificate(settings),
        "audit": _space([one for one in paths if "audit" in one.key]),
        "space": _space([one for one in paths if "audit" not in one.key]),
        "server": _server(document, policy_hash),
        "events": event_rows(document),
    }.items():
        try:
            for row in check:
                yield Finding(subject, *row)
        except (SecretError, OSError) as error:
            yield Finding(subject, "error", describe_network_error(error))


def _of_plugins(policy: Policy) -> Iterator[Finding]:
    for plugin in policy.plugins:
        if "checks" in plugin.hooks:
            for name, is_right, text in asyncio.run(checks_of(plugin)):
                yield Finding(f"{plugin.name}: {name}", "ok" if is_right else "error", text)
        elif "checks" in plugin.implemented:
            text = "its checks are not asked, as it runs in a process of its own"
            yield Finding(plugin.name, "skipped", text)


Rows = Iterator[tuple[str, str] | tuple[str, str, str]]
"""State, text and advice."""


def _ports(settings: Settings, *, is_running: bool) -> Rows:
    """Yield whether the ports are free, where the server does not use them itself."""
    for name, table in (("server", settings.server), ("admin", settings.admin)):
        if name == "admin" and not settings.admin.enabled:
            continue
        host, where = table.host.strip("[]"), f"{name}.port: {table.host}:{table.port}"
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            if not is_running:
                socket.create_server((host, table.port), family=family).close()
            yield "ok", f"{where} is {'in use by the server' if is_running else 'free'}"
        except OSError as error:
            yield "error", f"{where} cannot be used: {describe_network_error(error)}"


def _certificate(settings: Settings) -> Rows:
    """Yield expiry and chain; whether a server loaded the files is in its status."""
    if settings.tls is None:
        yield "skipped", "no [tls]: PINs and passwords are sent in clear text"
        return
    files = CertificateFiles.of(settings.tls, settings.path.parent)
    authority = files.certificate.with_name("ca.pem")
    yield from certificate_rows(files, authority if authority.is_file() else None)


def certificate_rows(files: CertificateFiles, trusted: Path | None) -> Rows:
    """Yield expiry and chain of a certificate, for clients that trust a CA or those of the system.

    Raises ``SecretError``.
    """
    by, loaded = trusted or "the CAs of this system", load(files)
    expiry = loaded.problems(datetime.now(UTC), WARNING_DAYS).get("certificate")
    yield "warning" if expiry else "ok", expiry or f"valid until {loaded.not_after:%Y-%m-%d}"
    if problem := verify_chain(files, trusted):
        advice = "append its intermediate certificates, or set SSL_CERT_FILE to its CA"
        yield "error" if trusted else "warning", f"not trusted by {by}: {problem}", advice
    else:
        yield "ok", f"its chain is trusted by {by}"


def verify_chain(files: CertificateFiles, trusted: Path | None) -> str:
    """Return why a client would refuse the certificate in a handshake in memory, or nothing."""
    client = ssl.create_default_context(cafile=trusted)
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT  # nodes do not ask for what Python 3.13 does
    client.check_hostname = False
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = load(files).context.wrap_bio(to_server, to_client, server_side=True)
    for end in (asking, answering, asking):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return str(error.verify_message)
    return ""


def _space(paths: list[NamedPath]) -> Rows:
    """Yield the free space for what is written."""
    for path, key, use in paths:
        if use in ("file", "folder", "made"):
            free, percent = free_space(path if path.is_dir() else path.absolute().parent)
            room = f"{format_size(free)} ({percent} %) free"
            yield "ok", f"{dotted_key(key)}: {path}: {room}"


def _server(document: Document | None, policy_hash: str) -> Rows:
    """Yield the state of a server from its status document."""
    if document is None:
        yield "skipped", "not running", "pexpolicy serve"
        return
    if document["ready"]:
        yield "ok", f"ready, up {format_duration(document['uptime'])}"
    else:
        yield "error", f"not ready: {'; '.join(document['not_ready_reasons'])}"
    if document["config"]["policy_hash"] != policy_hash:
        yield "warning", "it serves another configuration than the file has", "pexpolicy reload"
    if keys := document["config"]["restart_required"]:
        yield "warning", f"changed since its start: {', '.join(keys)}", "restart it"
    for text in degradations(document):
        yield "error", text, "pexpolicy status"


def event_rows(document: Document | None) -> Rows:
    """Yield which events a running server lacks, by its status document."""
    state = document and document["events"]
    if state and not state["nodes"]:
        yield "warning", "no event has come yet", "give the sink to the locations of the nodes"
    for node in state["nodes"] if state else ():
        if node["stale_since"] is not None:
            yield "warning", f"{node['source']} {node['node']}: {node['why']}"
