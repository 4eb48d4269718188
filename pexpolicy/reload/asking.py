"""Asking a running server to reload."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from pexpolicy.reload.control import sockets_of
from pexpolicy.reload.desk import RELOAD
from pexpolicy.reload.verdict import Verdict

PATIENCE = 180.0
"""Seconds for a verdict: longer than a server builds a configuration."""


def ask_for_reload(config: Path) -> list[Verdict | None]:
    """The verdict of each server with this configuration; ``None`` for one that ended meanwhile."""
    verdicts: list[Verdict | None] = []
    for path in sockets_of(config):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            try:
                connection.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                # A server that was killed leaves its socket behind.
                path.unlink(missing_ok=True)
                continue
            said = _answer(connection)
            verdicts.append(msgspec.json.decode(said, type=Verdict) if said else None)
    return verdicts


def _answer(connection: socket.socket) -> bytes:
    """The line that answers the command; empty from a server that ends instead."""
    try:
        connection.sendall(RELOAD)
        with connection.makefile("rb") as replies:
            return replies.readline()
    except ConnectionError:
        return b""
