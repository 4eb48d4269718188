"""What there is to know of an audit while it writes, and the alarms about it."""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

Status = Literal["healthy", "degraded", "failed"]

WATERMARKS = (20, 10, 5)
"""Percent of free space on the disk of the audit; an alarm is raised below each (NIST SP 800-53
AU-5(1)).
"""


@dataclass
class AuditState:
    """How an audit is doing. Whoever holds it reads; the audit alone writes.

    ``degraded``: lines wait in the spool or in memory, and none of them is lost so far. ``failed``:
    lines were lost since the last time that all was well. It becomes ``healthy`` by itself.
    """

    status: Status = "healthy"
    error: str = ""
    """Why it is not healthy, in words."""
    records: int = 0
    """Lines that were written, or wait to be."""
    lost: int = 0
    """Lines that were given up, since the start."""
    spooled_bytes: int = 0
    """Bytes that wait in the spool."""
    held_bytes: int = 0
    """Bytes that wait in memory."""
    free_bytes: int | None = None
    """Free space on the disk of the audit; ``None`` where it has none."""
    free_percent: int = 100
    """The same in percent of the disk."""
    synced_at: float | None = None
    """Seconds since 1970 of the last ``fdatasync``; ``None`` at levels without."""
    rotations: int = 0
    """How often the file was rotated or opened anew."""


class AlertWriter:
    """Says on standard error what an operator has to know, once each, and never waits.

    Standard error may be the pipe whose reader has stalled: what cannot be said now is said at the
    next ``repeat``. Any thread may say something.
    """

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._unsaid: list[str] = []
        self._one_at_a_time = threading.Lock()

    def say(self, text: str) -> None:
        """Write one line, now or as soon as somebody reads."""
        self._unsaid.append(text)
        self.repeat()

    def repeat(self) -> None:
        """Write what could not be written so far."""
        with self._one_at_a_time, suppress(OSError, ValueError):
            while self._unsaid and self._is_free():
                os.write(self._descriptor, f"{self._unsaid[0]}\n".encode("utf-8", "replace"))
                del self._unsaid[0]

    def _is_free(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return any(event & select.POLLOUT for _, event in poll.poll(0))
