"""Scheduled jobs of plugins: run at an interval, in one worker process of the server or in each."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, Literal

from pexpolicy.background.declarations import Periodic
from pexpolicy.errors import Log, describe_error
from pexpolicy.models.outcome import FAILED, TIMED_OUT
from pexpolicy.tasks import Failure

TAKE_OVER_S = 1.0
"""Seconds between two attempts to take over a job, at most its interval."""
INTERRUPTED_S = 60.0
"""Seconds after the start of a run that was interrupted until the next one, at most the interval: a
job that ends its worker must not end them all."""
DONE = "done"

JobRuns = Counter[tuple[str, str, str]]
"""Runs by plugin, job and outcome."""


def schedule(
    run: Callable[[], Awaitable[object]],
    *,
    every: float,
    timeout: float = 60.0,
    once_per: Literal["server", "worker"] = "server",
    name: str | None = None,
) -> ScheduledJob:
    """Run a job every ``every`` seconds while the plugin is open, the first time at once.

    Call it in the constructor of a plugin. ``run`` has ``timeout`` seconds for each run; one that
    raises or is late is logged and counted, and the next one comes as usual. The job is called
    ``name``, by default like the function.

    ``once_per="server"``: only one of the worker processes runs it. If that one ends, another one
    takes over. ``"worker"``: each runs it.
    """
    name = name or getattr(run, "__name__", "job").strip("_")
    return ScheduledJob(run, name, every, timeout, once_per)


class ScheduledJob(Periodic[object]):
    """A job of a plugin. Without a server it is an asynchronous context manager."""

    declared_as: ClassVar[str] = "schedule(...)"
    kind: ClassVar[str] = "job"

    def __init__(
        self,
        run: Callable[[], Awaitable[object]],
        name: str,
        every: float,
        timeout: float,
        once_per: Literal["server", "worker"],
    ) -> None:
        if once_per not in ("server", "worker"):
            raise ValueError(f"once_per is 'server' or 'worker', and not {once_per!r}")
        self._once_per = once_per
        self._locks = JobLocks()
        self._runs = self._locks.runs
        super().__init__(run, name, every, timeout)

    def bind(self, plugin: str, log: Log | None, locks: JobLocks) -> None:
        """Log and count runs under the name of the plugin, and share the locks of the server."""
        self._bind(plugin, log, "schedule")
        self._runs = locks.runs
        self._locks = locks if self._once_per == "server" else locks.of_this_process

    def report(self) -> dict[str, object]:
        """Return the state for the status."""
        last = self._locks.last_run(self._key)
        return {
            "every": self.every,
            "once_per": self._once_per,
            "last_run_age": last.age if last is not None else None,
            "problem": self.problem or None,
        }

    async def close(self) -> None:
        """Cancel a run, and leave the job to others."""
        await super().close()
        self._locks.release(self._key, self)

    async def _run_until_closed(self) -> None:
        while True:
            if not self._locks.acquire(self._key, self):
                await asyncio.sleep(min(TAKE_OVER_S, self.every))
            elif (pause := self._pause) > 0:
                await asyncio.sleep(pause)
            else:
                await self._run()

    @property
    def _key(self) -> str:
        return f"{self._plugin}\n{self.name}"

    @property
    def _pause(self) -> float:
        """Seconds until the next run."""
        last = self._locks.last_run(self._key)
        if last is None:
            return 0.0
        return (self.every if last.has_ended else min(self.every, INTERRUPTED_S)) - last.age

    async def _run(self) -> None:
        self._locks.record_start(self._key)
        result = await self._run_once()
        outcome, self.problem = DONE, ""
        if isinstance(result, Failure):
            is_late = self._running is not None and not self._running.done()
            outcome = TIMED_OUT if is_late else FAILED
            self.problem = describe_error(result.error).summary
            self._warn("job failed", result.error)
        self._runs[self._plugin, self.name, outcome] += 1
        self._locks.record_end(self._key)


_CELL = struct.Struct("=dq")
"""When the last run started, in seconds of the clock, and 1 if it has ended."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run of a job; ``age`` in seconds since its start."""

    age: float
    has_ended: bool


class JobLocks:
    """The locks of a server, and when each job ran last.

    ``across_processes``: make it before the worker processes are forked, which then share it. The
    kernel releases the locks of a process that ends. All processes need the same ``clock``.
    """

    def __init__(
        self, *, across_processes: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._held: dict[str, object] = {}
        self._runs: dict[str, bytes] = {}
        self._file: int | None = None
        self.runs: JobRuns = Counter()
        """Runs that were not added to the metrics yet."""
        self.of_this_process = JobLocks(clock=clock) if across_processes else self
        """Locks with a holder in each process."""
        if across_processes:
            self._file = _unnamed_file()
            weakref.finalize(self, os.close, self._file)

    def take_runs(self) -> JobRuns:
        """Return the runs since the last call."""
        runs: JobRuns = Counter(self.runs)
        self.runs.clear()
        return runs

    def acquire(self, job: str, holder: object) -> bool:
        """Return whether ``holder`` has the lock of a job, which it takes if it is free."""
        if self._held.setdefault(job, holder) is not holder:
            return False
        if self._file is not None:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, _CELL.size, _offset(job))
            except OSError:
                del self._held[job]
                return False
        return True

    def release(self, job: str, holder: object) -> None:
        """Release the lock, if ``holder`` has it."""
        if self._held.get(job) is holder:
            del self._held[job]
            if self._file is not None:
                fcntl.lockf(self._file, fcntl.LOCK_UN, _CELL.size, _offset(job))

    def last_run(self, job: str) -> LastRun | None:
        """Return the last run of a job in any process; ``None`` before the first."""
        cell = self._runs.get(job, b"")
        if self._file is not None:
            cell = os.pread(self._file, _CELL.size, _offset(job))
        if len(cell) < _CELL.size:
            return None
        started, has_ended = _CELL.unpack(cell)
        return LastRun(self._clock() - started, bool(has_ended)) if started else None

    def record_start(self, job: str) -> None:
        """Record that a run starts now."""
        self._record(job, self._clock(), has_ended=False)

    def record_end(self, job: str) -> None:
        """Record that the last run has ended."""
        if (last := self.last_run(job)) is not None:
            self._record(job, self._clock() - last.age, has_ended=True)

    def _record(self, job: str, started: float, *, has_ended: bool) -> None:
        cell = _CELL.pack(started, has_ended)
        if self._file is None:
            self._runs[job] = cell
        else:
            os.pwrite(self._file, cell, _offset(job))


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pexpolicy-jobs")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _offset(job: str) -> int:
    """Return the place of a job in the file, which is sparse."""
    digest = blake2b(job.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "big") * _CELL.size
