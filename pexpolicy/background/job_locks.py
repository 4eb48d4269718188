"""Locks of scheduled jobs: one holder in all worker processes of a server."""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

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
        self.of_this_process = JobLocks(clock=clock) if across_processes else self
        """Locks with a holder in each process."""
        if across_processes:
            self._file = _unnamed_file()
            weakref.finalize(self, os.close, self._file)

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
