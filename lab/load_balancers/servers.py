"""Two policy servers on ports that stay theirs, to be restarted, killed and frozen."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from tests.support import live_server
from tests.support.server_process import free_port
from tests.support.waiting import wait_until

CONFIGURATION = """
[server]
budget = 1.8
[audit]
path = "audit.jsonl"
"""
DECIDING = f"""{CONFIGURATION}
[plugins.rooms.settings]
default_room = "Room of {{local_alias}}"
[plugins.domains.settings]
allowed = ["@example.com"]
"""
"""Rooms for everybody, and registration for one domain."""
SOME = 10
"""Calls after which a guard surely knows that a server is back."""


class Server:
    """A policy server that its command line starts, again and again on the same port."""

    def __init__(self, folder: Path, configuration: str, files: Mapping[str, str] = {}) -> None:
        folder.mkdir()
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)
        self.port = free_port()
        self._config = folder / "config.toml"
        self._config.write_text(configuration)
        self._audit = folder / "audit.jsonl"
        self._life = ExitStack()
        self._seen = 0
        self.start()

    def start(self) -> None:
        """Come back once calls are answered."""
        self._seen = self._written()
        port = ("--port", str(self.port))
        self._running = self._life.enter_context(live_server.running(self._config, *port))

    def stop(self) -> None:
        """End it as an operator does, and wait until it has ended."""
        self._life.close()

    def strike(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self._running.pid, number)

    def wait_for_calls(self) -> None:
        """Come back when it has answered some calls since its start; fails when none comes.

        One is not enough: its line is written before the guard has the reply, and so before the
        guard knows that the server is back.
        """
        wait_until(lambda: self._answered() >= SOME)

    def _answered(self) -> int:
        with self._audit.open("rb") as audit:
            audit.seek(self._seen)
            return audit.read().count(b"\n")

    def _written(self) -> int:
        return self._audit.stat().st_size if self._audit.exists() else 0


@contextmanager
def pair(folder: Path, configuration: str = DECIDING) -> Iterator[list[Server]]:
    """Two of them, ended on leaving in whatever state they are."""
    servers: list[Server] = []
    try:
        servers += (Server(folder / name, configuration) for name in ("one", "two"))
        yield servers
    finally:
        for server in servers:
            with suppress(ProcessLookupError):
                server.strike(signal.SIGCONT)
            server.stop()


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """A server that says at ``/readyz`` that it is well, and answers no call; gives its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /readyz "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            with suppress(ConnectionError):
                await reader.read()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield port
