"""The replay of the last day on a configuration on the disk, in the background."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import msgspec

from pexpolicy_console.config_file import ConfigFile

PERIOD_S = 86_400.0
TIMEOUT_S = 900.0
"""After which a replay is ended."""
MAX_LINE = 1 << 25
CANCELLED = "the replay was cancelled"


class Side(msgspec.Struct, frozen=True):
    """What one configuration answers to the calls of a group."""

    action: str
    decided_by: str | None = None
    reason: str | None = None


class Example(msgspec.Struct, frozen=True):
    """One call of a group."""

    decision_id: str | None = None
    changes: dict[str, dict[str, Any]] = {}
    """Each changed field, ``from`` what ``to`` what; secrets are removed."""


class Group(msgspec.Struct, frozen=True):
    """Calls whose answers change in the same way."""

    endpoint: str
    before: Side = msgspec.field(name="from")
    after: Side = msgspec.field(name="to")
    fields: list[str]
    count: int
    example: Example


class Replayed(msgspec.Struct, frozen=True):
    """The result of a replay."""

    same: int = 0
    changed: int = 0
    share: float = 0.0
    not_compared: int = 0
    records: dict[str, int] = {}
    """By how exact they are."""
    groups: list[Group] = []
    """The largest groups first, not all of them."""
    left_out: int = 0
    """Further groups."""
    remarks: list[str] = []


class Progress(msgspec.Struct, frozen=True):
    """How far a replay is."""

    records: int = 0
    share: float = 0.0
    changed: int = 0
    """Calls with another answer so far."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the process: its progress, and at the end its result or why there is none."""

    progress: Progress | None = None
    result: Replayed | None = None
    problems: list[str] = []


class Replay:
    """Replays the calls of the last day, one replay at a time."""

    def __init__(self, config: ConfigFile, timeout: float = TIMEOUT_S) -> None:
        self._config = config
        self._timeout = timeout
        self._task: asyncio.Task[None] | None = None
        self.file = config.path
        """The configuration that is asked."""
        self.started: float | None = None
        """When the running or last replay was started; ``None`` before the first."""
        self.progress = Progress()
        self.last: Replayed | None = None
        """The last result; ``None`` while a replay runs."""
        self.problems: list[str] = []
        """Why there is no result."""

    @property
    def is_running(self) -> bool:
        """Whether a replay runs."""
        return self._task is not None and not self._task.done()

    def start(self, name: str = "") -> None:
        """Start a replay, unless one runs; on another file of the folder if it is named."""
        if not self.is_running:
            self.file = self._config.path.with_name(name or self._config.path.name)
            self.started, self.progress = time.time(), Progress()
            self.last, self.problems = None, []
            self._task = asyncio.create_task(self._run(self.started - PERIOD_S))

    async def cancel(self) -> None:
        """End the replay that runs, without a result."""
        if self.is_running:
            await self.close()
            self.problems = [CANCELLED]

    async def close(self) -> None:
        """End the replay that runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, since: float) -> None:
        try:
            await self._replay(since)
        except TimeoutError:
            self.problems = [f"the replay took longer than {self._timeout:.3g} s and was ended"]
        except OSError as error:
            self.problems = [f"the replay could not be started: {error.strerror}"]
        except msgspec.MsgspecError as error:
            self.problems = [f"the result cannot be read: {error}"]
        except ValueError:
            self.problems = ["the result is too long to show"]

    async def _replay(self, since: float) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "pexpolicy_console.replay_worker"),
            str(self._config.path),
            str(since),
            str(self.file),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE,
        )
        try:
            async with asyncio.timeout(self._timeout):
                await self._read(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            message = msgspec.json.decode(line, type=Message)
            self.progress = message.progress or self.progress
            self.last = message.result
            self.problems = message.problems
        status = await process.wait()
        if self.last is None and not self.problems:
            self.problems = [f"the process of the replay ended, exit code {status}"]
