"""The verification of the audit's hash chain, by ``pexpolicy audit verify`` in the background."""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec

from pexpolicy_console.config_file import ConfigFile

MAX_FAULTS = 50
"""Number of faults that are kept; all are counted."""
MAX_LINE = 1 << 20


class Chain(msgspec.Struct, frozen=True):
    """One chain: the lines that one server process wrote."""

    boot_id: str
    lines: int
    first: int
    head: str
    """Number and hash of its last line: an anchor to keep elsewhere."""
    lost: int = 0
    ended: bool = False
    signed_up_to: int | None = None


class _Line(msgspec.Struct):
    place: str = ""
    text: str = ""
    lines: int = 0
    faults: int = 0
    chains: list[Chain] | None = None


class Verified(msgspec.Struct, frozen=True):
    """The result of a verification; times are seconds of the Unix epoch."""

    started: float
    ended: float
    lines: int
    faults: int
    chains: list[Chain]
    found: list[str]
    """The first faults, each with file and line."""
    problem: str = ""
    """Why there is no result."""


class ChainVerification:
    """Verifies all audit files, one verification at a time."""

    def __init__(self, config: ConfigFile) -> None:
        self._config = config
        self._task: asyncio.Task[None] | None = None
        self.started: float | None = None
        """When the running verification was started; ``None`` if none runs."""
        self.last: Verified | None = None
        """The last result."""

    def start(self) -> None:
        """Start a verification, unless one runs."""
        if self.started is None:
            self.started = time.time()
            self._task = asyncio.create_task(self._run(self.started))

    async def close(self) -> None:
        """End the verification that runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, started: float) -> None:
        problem = ""
        try:
            self.last = await self._verified(started)
        except OSError as error:
            problem = f"the verification could not be started: {error.strerror}"
        except msgspec.MsgspecError as error:
            problem = f"the result cannot be read: {error}"
        except ValueError:
            problem = "a line of the result is too long to show"
        finally:
            self.started = None
        if problem:
            self.last = Verified(started, time.time(), 0, 0, [], [], problem)

    async def _verified(self, started: float) -> Verified:
        command = (sys.executable, "-m", "pexpolicy", "audit", "verify", "--json")
        process = await asyncio.create_subprocess_exec(
            *command,
            "--config",
            str(self._config.path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE,
        )
        assert process.stderr is not None
        complaint = asyncio.create_task(process.stderr.read())
        try:
            summary, found = await _read(process)
        finally:
            if process.returncode is None:
                process.kill()
            await asyncio.gather(process.wait(), complaint)
        if summary is None:
            said = complaint.result().decode("utf-8", "replace").strip()
            problem = said or f"the verification ended with code {process.returncode}"
            return Verified(started, time.time(), 0, 0, [], found, problem)
        chains = summary.chains or []
        return Verified(started, time.time(), summary.lines, summary.faults, chains, found)


async def _read(process: asyncio.subprocess.Process) -> tuple[_Line | None, list[str]]:
    """Return the last line of a verification, and the first faults."""
    assert process.stdout is not None
    found: list[str] = []
    summary: _Line | None = None
    async for raw in process.stdout:
        line = msgspec.json.decode(raw, type=_Line)
        if line.chains is not None:
            summary = line
        elif len(found) < MAX_FAULTS:
            found.append(f"{line.place}: {line.text}")
    await process.wait()
    return summary, found
