"""Checks of the machine: ports, clock and disk."""

from __future__ import annotations

import ctypes
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from pexpolicy.audit.state import WATERMARKS
from pexpolicy.cli.doctor.findings import Finding, State
from pexpolicy.cli.status_display import format_size
from pexpolicy.config.settings import Settings
from pexpolicy.errors import describe_network_error
from pexpolicy.server.http.listener import BACKLOG

CLOCK_ERROR = 5
"""TIME_ERROR of ntp_gettime(3): nothing synchronizes the clock."""


QUEUE_LIMIT = Path("/proc/sys/net/core/somaxconn")


class _ClockState(ctypes.Structure):
    """``struct ntptimeval`` of Linux."""

    _fields_ = (
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("max_error", ctypes.c_long),
        ("estimated_error", ctypes.c_long),
        ("tai", ctypes.c_long),
        ("reserved", ctypes.c_long * 4),
    )


def port_findings(settings: Settings, *, is_running: bool) -> Iterator[Finding]:
    """Yield whether the ports are free, where the server does not use them itself."""
    ports = [("server", settings.server.host, settings.server.port)]
    if settings.admin.enabled:
        ports.append(("admin", settings.admin.host, settings.admin.port))
    for table, host, port in ports:
        key = f"{table}.port"
        if is_running:
            yield Finding("ports", "ok", f"{key}: the server listens on {host}:{port}")
            continue
        try:
            _bind(host, port)
        except OSError as error:
            text = f"{key}: {host}:{port} cannot be used: {describe_network_error(error)}"
            advice = "end the program that listens there, or choose another port"
            yield Finding("ports", "error", text, advice)
        else:
            yield Finding("ports", "ok", f"{key}: {host}:{port} is free")


def _bind(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)


def queue_finding(settings: Settings, file: Path = QUEUE_LIMIT) -> Finding:
    """Return whether the kernel queues as many new connections as the server asks for."""
    try:
        limit = int(file.read_text())
    except (OSError, ValueError):
        return Finding("connections", "skipped", "only Linux tells how many may wait")
    wanted = min(BACKLOG, settings.limits.connections or BACKLOG)
    if limit >= wanted:
        return Finding(
            "connections", "ok", f"up to {min(limit, BACKLOG)} new ones may wait at once"
        )
    text = (
        f"the kernel queues only {limit} new ones (net.core.somaxconn) of {wanted}: where more "
        "arrive at once, clients try again after 1 s"
    )
    return Finding("connections", "warning", text, f"sysctl -w net.core.somaxconn={BACKLOG}")


def clock_finding() -> Finding:
    """Return whether the kernel's clock is synchronized."""
    if not sys.platform.startswith("linux"):
        return Finding("clock", "skipped", "only Linux tells whether it is synchronized")
    state = _ClockState()
    result = ctypes.CDLL(None).ntp_gettime(ctypes.byref(state))
    if result == CLOCK_ERROR:
        text = "not synchronized: certificates, rules with times and the audit depend on it"
        return Finding("clock", "warning", text, "start chrony or systemd-timesyncd")
    return Finding("clock", "ok", f"synchronized, at most {state.max_error / 1e6:.1g} s off")


def disk_finding(settings: Settings) -> Finding:
    """Return how much room the audit log has."""
    if settings.audit.path is None:
        return Finding("disk", "skipped", "the audit goes to standard output")
    folder = settings.resolve(settings.audit.path).absolute().parent
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return Finding("disk", "error", f"{folder}: {describe_network_error(error)}")
    percent = 100 * usage.free // usage.total
    text = f"{format_size(usage.free)} ({percent} %) free for {folder}"
    if percent >= WATERMARKS[0]:
        return Finding("disk", "ok", text)
    state: State = "warning" if percent >= WATERMARKS[1] else "error"
    return Finding("disk", state, text, "set audit.rotate_mb and keep, or move old files away")
