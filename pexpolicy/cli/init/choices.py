"""What the operator chose for a new configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pexpolicy.config.password_hash import PasswordHash

LOG_FILE = "/var/log/pexpolicy/audit.jsonl"
"""The audit log of the systemd unit."""
CONSOLE_FOLDER = "/var/lib/pexpolicy-console"
"""The folder of the console's systemd unit."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The answers to the questions of ``pexpolicy init``; paths are relative to ``folder``."""

    folder: Path
    port: int = 8000
    nodes: tuple[str, ...] = ()
    """Networks of the Conferencing Nodes; without them only this machine can connect."""
    user: str | None = "pexip"
    """``None``: calls need no password."""
    password_hash: PasswordHash | None = None
    certificate: str | None = None
    """``None``: no TLS."""
    key: str | None = None
    rooms: str | None = "rooms.csv"
    audit: str | None = "audit.jsonl"
    """``None``: standard output."""
    signs: bool = True
    systemd: bool = False
    console: bool | None = None
    """``None``: its package is not installed."""

    @property
    def host(self) -> str:
        """The address to listen on."""
        return "0.0.0.0" if self.nodes else "127.0.0.1"  # noqa: S104 - [access] lists the nodes

    @property
    def scheme(self) -> str:
        """The scheme of the server's URL."""
        return "http" if self.certificate is None else "https"
