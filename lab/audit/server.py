"""The server under test, its folder, the load on it, and checks of its audit files."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Self

from lab.load import Load, load
from lab.report import Finding
from pexpolicy.audit.reader import Fault, file_and_rotated, raw_lines, records
from pexpolicy.audit.verify import Verification
from tests.support import wire
from tests.support.waiting import HANG_S, wait_until

PLUGINS = """
[plugins.rooms.settings]
default_room = "Room {local_alias}"

[plugins.domains.settings]
allowed = ["@example.com"]
"""
TARGETS = (
    f"{wire.SERVICE}?local_alias=sip:engineering%40example.com",
    f"{wire.PARTICIPANT}?service_tag=engineering",
    f"{wire.REGISTRATION}alice%40example.com?location=Oslo",
)
CONNECTIONS = 8


class Server:
    """A server in a folder, with this `[audit]` table."""

    def __init__(self, folder: Path, audit: str = 'path = "audit.jsonl"') -> None:
        self.folder = folder
        self.path = folder / "audit.jsonl"
        (folder / "config.toml").write_text(f"[audit]\n{audit}\n{PLUGINS}")
        self.log_path = folder / "server.log"

    async def start(
        self,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        ports = ("--port", "0", "--admin-port", "0")
        command = (sys.executable, "-m", "pexpolicy", "serve", *ports)
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - it is waited for in a thread
                command,
                cwd=self.folder,
                stdout=stdout,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        await asyncio.to_thread(wait_until, lambda: self._announced is not None)
        assert self._announced is not None
        self.port, self.admin_port = map(int, self._announced.groups())
        return self

    @property
    def _announced(self) -> re.Match[bytes] | None:
        if self.process.poll() is not None:
            raise RuntimeError(self.log.decode())
        return re.search(rb"answers on http://[\d.]+:(\d+) .*http://[\d.]+:(\d+)\)", self.log)

    @property
    def log(self) -> bytes:
        return self.log_path.read_bytes()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, HANG_S)


@asynccontextmanager
async def under_load(
    folder: Path,
    finding: Finding,
    ids: list[str],
    table: str = 'path = "audit.jsonl"',
    *,
    pause: float = 0.0,
    connections: int = CONNECTIONS,
    **started: Any,
) -> AsyncIterator[tuple[Server, Load]]:
    """Start a server, and call it while the block runs; stop it then, if it was not killed.

    The calls are added to the finding and their decisions to ``ids``.
    """
    server = await Server(folder, table).start(**started)
    async with load(server.port, connections, pause, TARGETS, goes_on=False) as calls:
        yield server, calls
    if server.process.poll() is None:
        await server.stop()
    finding.longest = max(finding.longest, calls.longest)
    ids += calls.ids


async def wait_for(calls: Load, more: int) -> None:
    """Wait until so many more calls were made."""
    until = len(calls.calls) + more
    await asyncio.to_thread(wait_until, lambda: len(calls.calls) >= until)


async def check(
    finding: Finding, ids: list[str], paths: list[Path], *, doubled: bool = False
) -> Finding:
    """Compare the answered calls with the recorded ones, and verify the chains.

    `doubled`: some lines may be in two of the files.
    """
    await asyncio.to_thread(_check, finding, ids, paths, doubled)
    return finding


def _check(finding: Finding, ids: list[str], paths: list[Path], doubled: bool) -> None:
    recorded: list[str] = []
    for found in records(raw_lines(paths)):
        if isinstance(found, Fault):
            finding.wrong.append(str(found))
        elif "decision_id" in found.event:
            recorded.append(found.event["decision_id"])
    known = set(recorded)
    finding.answered += len(ids)
    if missing := [one for one in ids if one not in known]:
        finding.wrong.append(f"{len(missing)} answers without a line, such as {missing[0]}")
    if not doubled:
        finding.expect(len(recorded) == len(known), "lines are there twice")
        finding.wrong += [str(fault) for fault in Verification().verify(raw_lines(paths))]


def audit_files(folder: Path) -> list[Path]:
    """Return the audit files in a folder."""
    return file_and_rotated(folder / "audit.jsonl")
