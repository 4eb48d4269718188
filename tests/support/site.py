"""Servers of a site that get events: one with two workers on SQLite, or two on one PostgreSQL."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import live_server, postgresql, wire
from tests.support.server_process import free_port

ENGINES = ("sqlite", "postgresql")
SINK = wire.basic("sink", "a password of the sink")
BASE = """
[server]
port = {port}
state_dir = "state"
workers = {workers}
[admin]
port = {admin}
[audit]
path = "audit.jsonl"
[events]
user = "sink"
password_file = "sink.password"
[tenants.acme]
aliases = ["*@acme.example.com"]
[shared]
timeout = {timeout}
"""
SHARED = 'driver = "postgresql"\nurl = "{}"\npassword_file = "db.password"\n'


def configure(
    folder: Path,
    plugins: str,
    database: postgresql.Server | None = None,
    *,
    workers: int = 2,
    timeout: float = 4.0,
) -> dict[str, int]:
    """Write the configuration of a server with these tables of plugins; return its ports."""
    for name, secret in (("sink", "a password of the sink"), ("db", postgresql.PASSWORD)):
        (folder / f"{name}.password").write_text(secret)
        (folder / f"{name}.password").chmod(0o600)
    ports = {"port": free_port(), "admin": free_port()}
    base = BASE.format(**ports, workers=workers, timeout=timeout)
    shared = "" if database is None else SHARED.format(database.url)
    (folder / "config.toml").write_text(f"{base}{shared}{plugins}")
    return ports


def message(body: object, headers: Mapping[str, str] = SINK) -> bytes:
    """Return the request with which a node sends something."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Length": str(len(content)), **headers}
    return wire.request_bytes("/events/v1", "POST", sent) + content


class Site(NamedTuple):
    """The servers; each message and each call goes to the one of its number."""

    servers: list[live_server.Running]

    def server(self, number: int) -> live_server.Running:
        return self.servers[number % len(self.servers)]

    def config(self, number: int) -> Path:
        return self.server(number).audit.with_name("config.toml")

    def post(self, number: int, body: object, headers: Mapping[str, str] = SINK) -> int:
        """Send what a node sends; return the status."""
        return asyncio.run(wire.send(self.server(number).port, message(body, headers))).status

    def status(self, number: int, plugin: str) -> Any:
        """Return what a plugin tells of its state."""
        told = self.server(number).operator("/status").json["plugins"]
        return next(one["status"] for one in told if one["name"] == plugin)


@contextmanager
def running(folder: Path, engine: str, plugins: str) -> Iterator[Site]:
    """Start the servers of a site in this folder, with these tables of plugins."""
    with ExitStack() as stack:
        database, count = None, 1
        if engine == "postgresql":
            database, count = stack.enter_context(postgresql.Server.running()), 2
        servers = []
        for number in range(count):
            own = folder / f"server-{number}"
            own.mkdir()
            configure(own, plugins, database, workers=3 - count)
            started = live_server.running(own / "config.toml", folder=own, own_admin_port=True)
            servers.append(stack.enter_context(started))
        yield Site(servers)
