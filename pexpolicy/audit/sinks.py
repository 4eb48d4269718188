"""Sinks: the end of structlog's chain, which hand rendered lines to the journal.

For the levels at which a reply waits for the disk a thread writes (group commit): all lines that
arrive while the disk is busy are written and synced together, so one ``fdatasync`` serves many
calls. A line waits for the ``fdatasync`` in progress and for its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Generator, Iterable, Iterator
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from pexpolicy.audit.journal import (
    CHECK_INTERVAL_S,
    DISK_TOO_SLOW,
    INTERNAL_ERROR,
    NOT_SYNCED,
    Journal,
)
from pexpolicy.audit.spool import WriteResult

MAX_BATCH = 64
"""Lines that are written together."""


class Sink(Protocol):
    """Takes lines."""

    def info(self, line: bytes) -> Awaitable[bool] | None:
        """Take a line, a JSON object without a line end.

        Return ``None`` when the reply may be sent, or an awaitable of whether it may: false when
        the line is not recorded.
        """

    def set_batching(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Let lines wait for the next turn of ``loop`` or for ``flush``, which is called before a
        reply is sent; write them at once without a loop. By default no line waits.
        """
        return

    def flush(self) -> None:
        """Write batched lines."""
        return

    def tick(self) -> float:
        """Do what is due without a line; return the seconds until the next call."""

    def reopen(self) -> None:
        """Open the file again."""

    def close(self) -> None:
        """Write waiting lines, and close the file."""


class NotRecorded(Awaitable[bool]):
    """An awaitable for a line that is lost already: false, at once."""

    def __await__(self) -> Generator[None, None, bool]:
        return False
        yield


class JournalSink(Sink):
    """Writes on the event loop, for level ``file``.

    ``answers``: a reply is sent even if its line is lost. ``batches``: the lines of one turn of the
    event loop are written together, before their replies are sent, which takes half the processor
    time of single writes; only where ``answers`` is true, and for a file.
    """

    def __init__(self, journal: Journal, *, answers: bool = True, batches: bool = False) -> None:
        self._journal = journal
        self._answers = answers
        self._batches = batches
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = Context()
        self._lines: list[bytes] = []

    def info(self, line: bytes) -> Awaitable[bool] | None:
        """Write or store a line, with others of this turn while batching is on."""
        if self._loop is None:
            return None if self._journal.record(line) or self._answers else NotRecorded()
        self._lines.append(line)
        count = len(self._lines)
        if count == 1:
            self._loop.call_soon(self.flush, context=self._context)
        elif count == MAX_BATCH:
            self.flush()
        return None

    def set_batching(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Batch lines until ``flush`` or the next turn of ``loop``, or stop batching."""
        self.flush()
        self._loop = loop if self._batches else None

    def flush(self) -> None:
        """Write batched lines. Raises nothing: the replies that wait for this have to be sent."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        try:
            self._journal.record(*lines)
        except Exception as error:  # noqa: BLE001 - see above
            self._journal.report_error(error)
            self._journal.count_lost(len(lines), INTERNAL_ERROR)

    def tick(self) -> float:
        """Do what is due without a line."""
        return self._journal.tick()

    def reopen(self) -> None:
        """Open the file again, now; batched lines belong to the old one."""
        self.flush()
        self._journal.reopen()
        self._journal.tick()

    def close(self) -> None:
        """Write batched and waiting lines, and close the file."""
        self.flush()
        self._journal.close()


RECORD_TIMEOUT_S = 0.25
"""How long a reply waits for its line."""
JOIN_TIMEOUT_S = 1.5
"""How long ``close`` waits for the thread; the process is ended soon after."""


@dataclass(frozen=True)
class Durability:
    """What holds when a reply is sent."""

    answers: bool = True
    """It is sent even if its line is not recorded."""
    least: WriteResult = WriteResult.BUFFERED
    """The least durable result that counts as recorded."""


class _PendingRecord:
    """A line on its way to the thread, and the future that its reply waits for, if any."""

    __slots__ = ("body", "loop", "recorded", "timed_out", "timer")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.recorded: asyncio.Future[bool] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.timed_out = False


class GroupCommitSink(Sink):
    """Takes lines on the event loop, and writes them in a thread. ``capacity`` in bytes."""

    def __init__(
        self,
        journal: Journal,
        durability: Durability,
        capacity: int,
        timeout: float = RECORD_TIMEOUT_S,
    ) -> None:
        self._journal = journal
        self._durability = durability
        self._capacity = capacity
        self._timeout = timeout
        if not durability.answers:
            journal.sync_limit = timeout
        self._queue: list[_PendingRecord] = []
        self._queued_bytes = 0
        """Bytes of lines that the thread has not taken yet."""
        self._group: list[_PendingRecord] = []
        """The lines that the thread is writing."""
        self._lost = 0
        """Lines lost since the thread last took the queue."""
        self._unresolved: list[tuple[_PendingRecord, bool]] = []
        """Entries that the thread has handed to the loop, and whether each is recorded."""
        self._writing_since: float | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="pexpolicy-audit", daemon=True)
        self._thread.start()

    def info(self, line: bytes) -> Awaitable[bool] | None:
        """Queue a line."""
        answers = self._durability.answers
        since = self._writing_since
        stuck = since is not None and time.monotonic() - since > self._timeout
        if self._queued_bytes + len(line) > self._capacity or (stuck and not answers):
            self._journal.mark_failed(DISK_TOO_SLOW)
            with self._changed:
                self._lost += 1
            return None if answers else NotRecorded()
        entry = _PendingRecord(line)
        if not stuck:
            self._start_timeout(entry)
        self._enqueue(entry)
        return entry.recorded

    def _enqueue(self, entry: _PendingRecord) -> None:
        with self._changed:
            self._queue.append(entry)
            self._queued_bytes += len(entry.body)
            self._changed.notify()

    def _start_timeout(self, entry: _PendingRecord) -> None:
        entry.loop = loop = asyncio.get_running_loop()
        entry.recorded = loop.create_future()
        entry.timer = loop.call_later(self._timeout, self._time_out, entry)

    def _time_out(self, entry: _PendingRecord) -> None:
        assert entry.recorded is not None
        if not entry.recorded.done():
            entry.timed_out = not self._durability.answers
            if entry.timed_out:
                self._journal.mark_failed(DISK_TOO_SLOW)
            entry.recorded.set_result(self._durability.answers)

    def tick(self) -> float:
        """Do nothing: the thread calls ``Journal.tick``."""
        return CHECK_INTERVAL_S

    def reopen(self) -> None:
        """Open the file again."""
        self._journal.reopen()
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Write queued lines, and close the file; do not wait for a thread that hangs, but report
        its lines.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            waiting = [*self._group, *self._queue]
            self._journal.report_unwritten(sum(not entry.timed_out for entry in waiting))

    def _run(self) -> None:
        pause = CHECK_INTERVAL_S
        while True:
            with self._changed:
                if not self._queue and not self._closed:
                    self._changed.wait(pause)
                self._group = group = self._queue
                self._queue, self._queued_bytes = [], 0
                lost, self._lost = self._lost, 0
                closed = self._closed
            self._writing_since = time.monotonic()
            try:
                self._journal.count_lost(lost)
                self._write(group)
                pause = self._journal.tick()
            except Exception as error:  # noqa: BLE001 - without this thread nothing is recorded
                self._journal.report_error(error)
            if closed and not group:
                self._retract_unresolved()
                self._journal.close()
                return
            self._writing_since = None

    def _write(self, group: list[_PendingRecord]) -> None:
        results: list[tuple[_PendingRecord, WriteResult]] = []
        for entry in group:
            # Entries may time out while an earlier one is being written.
            if entry.timed_out:
                self._journal.count_lost(1)
            else:
                results.append((entry, self._record(entry.body)))
        least: int = self._durability.least
        if results:
            try:
                self._journal.sync()
            except OSError:
                least = WriteResult.WRITTEN + 1
                if not self._durability.answers:
                    self._on_unsynced(results)
        awaited = [(entry, result >= least) for entry, result in results if entry.loop is not None]
        if awaited:
            loop = awaited[0][0].loop
            assert loop is not None
            with self._changed:
                self._unresolved += awaited
            try:
                loop.call_soon_threadsafe(self._resolve)
            except RuntimeError:
                return  # the loop has ended

    def _on_unsynced(self, results: list[tuple[_PendingRecord, WriteResult]]) -> None:
        """Retract lines that are in the file although their decisions are not sent."""
        self._journal.mark_failed(NOT_SYNCED)
        for line in retractions(e for e, result in results if result is not WriteResult.LOST):
            self._record(line)

    def _record(self, body: bytes) -> WriteResult:
        try:
            return self._journal.record(body)
        except Exception as error:  # noqa: BLE001 - the other lines must still be synced
            self._journal.report_error(error)
            self._journal.count_lost(1, INTERNAL_ERROR)
            return WriteResult.LOST

    def _resolve(self) -> None:
        """Release the replies, and retract lines that were recorded too late."""
        resolved = [*self._unresolved]
        for entry, recorded in resolved:
            assert entry.recorded is not None
            assert entry.timer is not None
            entry.timer.cancel()
            if not entry.recorded.done():
                entry.recorded.set_result(recorded or self._durability.answers)
        for line in retractions(e for e, recorded in resolved if e.timed_out and recorded):
            self._enqueue(_PendingRecord(line))
        with self._changed:
            del self._unresolved[: len(resolved)]

    def _retract_unresolved(self) -> None:
        """Retract lines that were recorded too late, as the loop no longer does it."""
        for line in retractions(e for e, recorded in self._unresolved if e.timed_out and recorded):
            self._record(line)


def retractions(entries: Iterable[_PendingRecord]) -> Iterator[bytes]:
    """Yield the lines that retract the decisions among these lines, which were not sent.

    The line of a shadow has the ``decision_id`` of a decision that may have been sent.
    """
    for entry in entries:
        event = msgspec.json.decode(entry.body)
        if event["event"] != "decision":
            continue
        retraction = {
            "timestamp": datetime.now(UTC),
            "event": "retracted",
            "decision_id": event.get("decision_id"),
            "reason": "not recorded in time: the audit was unavailable when the reply was sent",
            "config_hash": event.get("config_hash"),
        }
        yield msgspec.json.encode(retraction)
