"""The journal: writes lines in order, or stores them while they cannot be written.

While lines wait, new ones wait after them: the order of the chain is the order of the file. Each
operation that may fail is retried.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pexpolicy.audit.hash_chain import CHECKPOINT, END, HashChain, Signer
from pexpolicy.audit.records import encode, line_of
from pexpolicy.audit.spool import Spool, WriteResult
from pexpolicy.audit.targets import Target

CHECK_INTERVAL_S = 1.0
"""Between two checks of the path, the disk and the age of the file."""
CLOSE_TIMEOUT_S = 1.0
"""For writing waiting lines when the journal is closed."""
CLOSE_ATTEMPTS = 20
"""Attempts within that time."""
DISK_TOO_SLOW = "its disk does not answer in time"
NOT_SYNCED = "its disk cannot be synced"
INTERNAL_ERROR = "an internal error"
"""Why lines are lost although no write has failed."""
SYNC_ROTATION_INTERVAL_S = 3600.0
"""Between two new files after a failed sync: each rotation may remove an old file."""
DRAIN_BLOCKS = 8
"""Blocks of the spool that are written at a time: calls are answered in between."""
PROBE = b" " * 1023 + b"\n"
"""A blank line, which readers skip: it shows that lines can be written where none waits."""
FILE_DELETED = (
    "the audit file was deleted and a new one was created; "
    "it contains only the last lines of this server"
)

Rotate = Callable[[bool], bool]
"""Rotates the file if it is due, or in any case; true when it did. Raises ``OSError``."""


class Journal:
    """Writes the lines of one writer; used by one thread."""

    def __init__(  # noqa: PLR0913 - a writer is made in one place
        self,
        target: Target,
        chain: HashChain,
        state: AuditState,
        alert: Alert,
        *,
        spool: Spool | None = None,
        capacity: int = 0,
        rotate: Rotate | None = None,
        signer: Signer | None = None,
        line_before: Callable[[], bytes] = bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``capacity``: bytes of lines that may wait in memory. ``line_before`` returns what names
        the last line of the log.

        Lines in the spool are chained already. Lines in memory are not: they follow those of the
        spool and are chained when they are written.
        """
        self.state = state
        self._target = target
        self._chain = chain
        self._spool = spool
        self._capacity = capacity
        self._buffer: deque[bytes] = deque()
        self._alert = alert
        self._rotate = rotate
        self._signer = chain.signer = signer
        self._line_before = line_before
        self.writes_end = False
        """Whether ``close`` writes a line of the event ``end``."""
        self.sync_limit: float | None = None
        """Seconds that a sync may take where decisions are not sent without one."""
        self._clock = clock
        self._buffering = False
        """True while lines wait, or would have to."""
        self._unreachable = False
        """True while the path cannot be opened."""
        self._reopen_requested = False
        self._syncs = self._has_unsynced = False
        """Whether lines are synced at all, and whether there are some to sync."""
        self._sync_error: OSError | None = None
        """Why the lines of an earlier file could not be synced."""
        self._watermarks_passed = 0
        self._check_at = clock() + CHECK_INTERVAL_S
        self._retry_at = self._next_sync_alert_at = self._next_sync_rotation_at = 0.0
        self._measure_space()

    def record(self, *bodies: bytes) -> WriteResult:
        """Write JSON objects in one piece, or store them; return the least durable result."""
        now = self._clock()
        if not (self._is_ready(now) and self._append(bodies, now)):
            return self._store(bodies)
        self.state.records += len(bodies)
        return WriteResult.WRITTEN

    def _is_ready(self, now: float) -> bool:
        """Do what is due; return whether no line waits."""
        if now >= self._check_at:
            self._check(now)
        return not self._buffering or self._drain(now)

    def _append(self, bodies: Sequence[bytes], now: float, *, is_mark: bool = False) -> bytes:
        """Write the next lines, and return them; nothing when lines have to wait from now on."""
        lines, position = self._chain.chain_lines(*bodies, before=self._before, is_mark=is_mark)
        try:
            self._write(lines)
        except OSError as error:
            self._start_buffering(error, now)
            return b""
        self._chain.commit(position)
        return lines

    @property
    def _before(self) -> bytes:
        """What names the line before the first one in a file.

        A line in the spool names none, as that line may be gone when the spool is written.
        """
        return self._line_before() if self._chain.starts_file else b""

    def count_lost(self, count: int, why: str = DISK_TOO_SLOW) -> None:
        """Count lines that were dropped before they were recorded; the next line mentions them."""
        if count:
            self._chain.lost += count
            self.state.lost += count
            self.mark_failed(why)

    def mark_failed(self, error: str) -> None:
        """Record that lines are lost, and why.

        Another thread may call this while a write hangs: the next check resets the state once that
        write has returned.
        """
        if self.state.status != "failed":
            self.state.error = self.state.error or error
            self._degrade()
            self.state.status = "failed"
            self._alert(f"the audit loses lines: {self.state.error}")

    def mark_stuck(self, queued_bytes: int) -> None:
        """Record that lines wait in memory while a write hangs. Thread-safe, as ``mark_failed``."""
        self.state.queued_bytes = queued_bytes
        self.state.error = self.state.error or DISK_TOO_SLOW
        self._degrade()

    def report_error(self, error: Exception, lost: int = 0) -> None:
        """Alert about an unexpected exception, and count the lines that it loses."""
        self._alert(f"internal error in the audit: {type(error).__name__}: {error}")
        self.count_lost(lost, INTERNAL_ERROR)

    def reopen(self) -> None:
        """Open the file again at the next line or ``tick``. Thread-safe."""
        self._reopen_requested = True
        self._check_at = 0.0

    def tick(self) -> float:
        """Do what is due without a line; return the seconds until the next call."""
        now = self._clock()
        return max(self._check_at - now, 0.0) if self._is_ready(now) else self._target.retry

    def sync(self) -> None:
        """Wait until the written lines are on the disk; raises ``OSError``.

        After a failure the pages count as lost: a second attempt may succeed without having written
        them. The file is rotated away and a new one is opened, but not again within
        ``SYNC_ROTATION_INTERVAL_S``: while a disk is broken, each new file would fail as well.
        """
        try:
            self._sync_target()
            if self._spool is not None:
                self._spool.sync()
        except OSError as error:
            now = self._clock()
            if now >= self._next_sync_alert_at:
                self._next_sync_alert_at = now + CHECK_INTERVAL_S
                self._alert(f"the audit cannot be synced to the disk: {error.strerror}")
            if now >= self._next_sync_rotation_at:
                self._next_sync_rotation_at = now + SYNC_ROTATION_INTERVAL_S
                self._rotate_away(now, anyway=True)
            raise
        self.state.synced_at = time.time()

    def _write(self, lines: bytes) -> None:
        self._target.write(lines)
        self._has_unsynced = True

    def _sync_target(self) -> None:
        """Sync what was written since the last call: a file that cannot be synced must not fail
        lines that went to the spool.
        """
        self._syncs = True
        error, self._sync_error = self._sync_error, None
        if error is not None:
            raise error
        if self._has_unsynced:
            self._has_unsynced = False
            self._target.sync()

    def close(self) -> None:
        """Write waiting lines as far as possible, and close everything."""
        for _ in range(CLOSE_ATTEMPTS):
            if not self._buffering or self._drain(self._retry_at):
                break
            time.sleep(CLOSE_TIMEOUT_S / CLOSE_ATTEMPTS)
        if not self._buffering and self._chain.seq:
            self._write_mark(END if self.writes_end else CHECKPOINT, self._clock())
        self.report_unwritten()
        if self._spool is not None:
            self._spool.close()
        self._target.close(CLOSE_TIMEOUT_S)

    def report_unwritten(self, count: int = 0) -> None:
        """Alert that the lines in memory, and ``count`` more, are lost with this process."""
        if count := count + len(self._buffer):
            self._alert(f"the audit ends with {count} lines that were not written")

    def _start_buffering(self, error: OSError, now: float) -> None:
        self._buffering = True
        self._retry_at = now + self._target.retry
        if isinstance(error, BlockingIOError):
            # This may last a moment only: an alert is raised if it lasts until the next check.
            self.state.error = "its reader has stalled"
        else:
            self.state.error = error.strerror or type(error).__name__
            self._degrade()

    def _degrade(self) -> None:
        if self.state.status == "healthy":
            self.state.status = "degraded"
            self._alert(f"the audit cannot be written: {self.state.error}")

    def _store(self, bodies: Sequence[bytes]) -> WriteResult:
        least = min(map(self._store_one, bodies))
        if least is WriteResult.LOST:
            self.mark_failed(self.state.error)
        return least

    def _store_one(self, body: bytes) -> WriteResult:
        state, chain, spool = self.state, self._chain, self._spool
        if spool is not None and not self._buffer:
            if not spool.pending:
                # The next start may write these lines to another file.
                chain.starts_file = True
            line, position = chain.chain_lines(body)
            with suppress(OSError):  # memory is next
                spool.append(line)
                chain.commit(position)
                state.spooled_bytes = spool.pending
                state.records += 1
                return WriteResult.SPOOLED
        if state.buffered_bytes + len(body) <= self._capacity:
            self._buffer.append(body)
            state.buffered_bytes += len(body)
            state.records += 1
            return WriteResult.BUFFERED
        chain.lost += 1
        state.lost += 1
        return WriteResult.LOST

    def _drain(self, now: float) -> bool:
        """Write waiting lines; return true when none is left."""
        if now < self._retry_at or self._unreachable:
            return False
        try:
            if not self._has_drained():
                return False
        except OSError as error:
            self._start_buffering(error, now)
            return False
        self._buffering = False
        if self.state.status == "healthy":
            self.state.error = ""
        return True

    def _has_drained(self) -> bool:
        """Write waiting lines in order; return true when none is left. Raises ``OSError``."""
        spool, chain = self._spool, self._chain
        if not self._buffer and (spool is None or not spool.pending):
            self._write(PROBE)  # what could not be written is lost
        for _ in range(DRAIN_BLOCKS):
            if spool is None or not spool.pending:
                break
            lines = spool.first()
            self._write(lines)
            spool.remove(len(lines))
            self.state.spooled_bytes = spool.pending
        else:
            return False
        while self._buffer:
            line, position = chain.chain_lines(self._buffer[0], before=self._before)
            self._write(line)
            chain.commit(position)
            self.state.buffered_bytes -= len(self._buffer.popleft())
        return True

    def _check(self, now: float) -> None:
        """Check whether the path still leads to the open file, and the free space of the disk."""
        self._check_at = now + CHECK_INTERVAL_S
        requested, self._reopen_requested = self._reopen_requested, False
        if requested or self._unreachable or not self._target.is_current():
            self._reopen_target(now)
        else:
            self._rotate_away(now, anyway=False)
        if self._buffering:
            self._degrade()
        elif self.state.status != "healthy" and self._is_synced_in_time():
            self.state.status, self.state.error = "healthy", ""
            self._alert(f"the audit is written again; lines lost so far: {self.state.lost}")
        signer = self._signer
        if signer is not None and not self._buffering and signer.is_due(self._chain, now):
            self._write_mark(CHECKPOINT, now)
        self._measure_space()

    def _is_synced_in_time(self) -> bool:
        """Return whether a line would be on the disk in time, where decisions wait for that.

        A load balancer sends no calls that would show it.
        """
        if self.sync_limit is None:
            return True
        began = self._clock()
        try:
            self._write(b"\n")
            self._sync_target()
        except OSError:
            return False
        return self._clock() - began <= self.sync_limit

    def _reopen_target(self, now: float) -> None:
        if self._syncs:
            try:
                self._sync_target()
            except OSError as error:
                self._sync_error = error
        try:
            deleted = self._target.reopen()
        except OSError as error:
            self._unreachable = True
            self._start_buffering(error, now)
            return
        self._unreachable = False
        if deleted:
            self._alert(FILE_DELETED)
        self._chain.starts_file = True

    def _rotate_away(self, now: float, *, anyway: bool) -> None:
        if self._rotate is None:
            return
        try:
            if self._rotate(anyway):
                self._reopen_target(now)
        except OSError as error:
            self._alert(f"the audit cannot be rotated: {error.strerror}")

    def _write_mark(self, event: str, now: float) -> None:
        """Write a checkpoint or the end; a signed one goes to standard error too, as an anchor."""
        if self._signer is None:
            if event == END:
                self._append([encode(line_of(END))], now)
            return
        if line := self._append([self._signer.line(self._chain, event)], now, is_mark=True):
            self._signer.wrote(self._chain, now)
            self._alert(line.decode().rstrip())

    def _measure_space(self) -> None:
        if (space := self._target.space()) is None:
            return
        self.state.free_bytes, self.state.free_percent = space
        passed = sum(space[1] < mark for mark in WATERMARKS)
        if passed > self._watermarks_passed:
            self._alert(f"the disk of the audit has {space[1]} % left")
        self._watermarks_passed = passed


Status = Literal["healthy", "degraded", "failed"]
Alert = Callable[[str], object]
"""Writes one line for the operator to standard error, and never waits for its reader."""

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
