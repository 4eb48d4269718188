"""The state of an audit log while it writes, and alerts about it."""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

Status = Literal["healthy", "degraded", "failed"]

WATERMARKS = (20, 10, 5)
"""Percent of free space on the disk of the audit log; falling below each raises an alert (NIST SP
800-53 AU-5(1)).
"""


@dataclass
class AuditState:
    """The state of an audit log, written by the audit log alone.

    ``degraded``: lines wait in the spool or in memory, and none has been lost. ``failed``: lines
    were lost since the state was last healthy. It becomes ``healthy`` by itself.
    """

    status: Status = "healthy"
    error: str = ""
    """Why it is not healthy."""
    records: int = 0
    """Lines that were written, or wait to be."""
    lost: int = 0
    """Lines lost since the start."""
    spooled_bytes: int = 0
    """Bytes that wait in the spool."""
    buffered_bytes: int = 0
    """Bytes that wait in memory."""
    free_bytes: int | None = None
    """Free space on the disk of the audit log; ``None`` for a stream."""
    free_percent: int = 100
    """The same in percent of the disk."""
    queued_bytes: int = 0
    """Bytes that wait for a disk that does not answer in time."""
    synced_at: float | None = None
    """Seconds since 1970 of the last ``fdatasync``; ``None`` at level ``file``."""
    shipped_until: float | None = None
    """Seconds since 1970 up to which all lines are in the database; ``None`` without one."""
    removed_unshipped: int = 0
    """Rotated files that were removed before they were in the database."""

    @property
    def ship_lag(self) -> float | None:
        """Age of the oldest line that may not be in the database, in seconds."""
        until = self.shipped_until
        return None if until is None else max(time.time() - until, 0.0)

    @property
    def loses_lines(self) -> bool:
        """True while lines are lost, or wait in memory, and are lost with this process."""
        waits = self.status == "degraded" and self.buffered_bytes + self.queued_bytes > 0
        return waits or self.status == "failed"


class AlertWriter:
    """Writes alerts to standard error, once each, without blocking. Thread-safe.

    Standard error may be the pipe whose reader has stalled: an alert that cannot be written is
    written by a later ``flush``.
    """

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self.is_terminal = os.isatty(descriptor)
        self._pending: list[str] = []
        self._lock = threading.Lock()

    def alert(self, text: str) -> None:
        """Write one line, now or at a later ``flush``."""
        self._pending.append(text)
        self.flush()

    def flush(self) -> None:
        """Write pending alerts."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        with self._lock, suppress(OSError, ValueError):
            while self._pending and any(event & select.POLLOUT for _, event in poll.poll(0)):
                os.write(self._descriptor, f"{self._pending[0]}\n".encode("utf-8", "replace"))
                del self._pending[0]
