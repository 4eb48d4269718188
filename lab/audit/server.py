"""The server under test, its folder, and checks of its audit files."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from pexpolicy.audit.reader import CorruptLine, file_and_rotated, raw_lines, records
from pexpolicy.audit.verify import Verification
from tests.support.waiting import wait_until

PLUGINS = """
[plugins.rooms.settings]
default_room = "Room {local_alias}"

[plugins.domains.settings]
allowed = ["@example.com"]
"""
TIMEOUT_S = 60.0
"""For a start and for an end."""


@dataclass
class Finding:
    """The result of one experiment, which succeeded if `wrong` is empty."""

    name: str
    trials: str
    answered: int = 0
    longest: float = 0.0
    """Seconds of the longest call."""
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def start_process(command: tuple[str, ...], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process."""
    return subprocess.Popen(command, **options)


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
        command = (sys.executable, "-m", "pexpolicy", "serve", "--port", "0")
        with self.log_path.open("wb") as log:
            self.process = start_process(
                command,
                cwd=self.folder,
                stdout=stdout,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        await asyncio.to_thread(wait_until, lambda: self._announced is not None)
        assert self._announced is not None
        self.port = int(self._announced[1])
        return self

    @property
    def _announced(self) -> re.Match[bytes] | None:
        if self.process.poll() is not None:
            raise RuntimeError(self.log.decode())
        return re.search(rb"answers on http://[\d.]+:(\d+)", self.log)

    @property
    def log(self) -> bytes:
        return self.log_path.read_bytes()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, TIMEOUT_S)


def check(finding: Finding, ids: list[str], paths: list[Path], *, doubled: bool = False) -> None:
    """Compare the answered calls with the recorded ones, and verify the chains.

    `doubled`: some lines may be in two of the files.
    """
    recorded: list[str] = []
    for found in records(paths):
        if isinstance(found, CorruptLine):
            finding.wrong.append(str(found))
        elif "decision_id" in found.event:
            recorded.append(found.event["decision_id"])
    known = set(recorded)
    finding.answered += len(ids)
    if missing := [one for one in ids if one not in known]:
        finding.wrong.append(f"{len(missing)} answers without a line, such as {missing[0]}")
    if not doubled and len(recorded) != len(known):
        finding.wrong.append(f"{len(recorded) - len(known)} lines are there twice")
    if not doubled:
        finding.wrong += [str(fault) for fault in Verification().verify(raw_lines(paths))]


def audit_files(folder: Path) -> list[Path]:
    """Return the audit files in a folder."""
    return file_and_rotated(folder / "audit.jsonl")
