"""Sinks: they hand rendered lines to the journal.

For the levels at which a reply waits for the disk a thread writes (group commit): all lines that
arrive while the disk is busy are written and synced together, so one ``fdatasync`` serves many
calls. A line waits for the ``fdatasync`` in progress and for its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Generator, Iterable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass

import msgspec

from pexpolicy.audit.journal import CHECK_INTERVAL_S, DISK_TOO_SLOW, NOT_SYNCED, Journal
from pexpolicy.audit.records import encode, line_of
from pexpolicy.audit.spool import WriteResult

MAX_BATCH = 64
"""Lines that are written together."""


class NotRecorded(Awaitable[bool]):
    """An awaitable for a line that is lost already: false, at once."""

    def __await__(self) -> Generator[None, None, bool]:
        return False
        yield


class JournalSink:
    """Takes lines, and writes them on the event loop, for level ``file``.

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

    def record(self, line: bytes) -> Awaitable[bool] | None:
        """Take a line, a JSON object without a line end, with others of this turn while batching is
        on. Return ``None`` when the reply may be sent, or an awaitable of whether it may: false
        when the line is not recorded.
        """
        if self._loop is None:
            return None if self._journal.record(line) else self.lost()
        self._lines.append(line)
        count = len(self._lines)
        if count == 1:
            self._loop.call_soon(self.flush, context=self._context)
        elif count == MAX_BATCH:
            self.flush()
        return None

    def lost(self) -> Awaitable[bool] | None:
        """Return the same for a line that is lost, or could not be made."""
        return None if self._answers else NotRecorded()

    def set_batching(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Batch lines until ``flush``, which is called before a reply is sent, or the next turn of
        ``loop``; stop batching without a loop.
        """
        self.flush()
        self._loop = loop if self._batches else None

    def flush(self) -> None:
        """Write batched lines. Raises nothing: the replies that wait for this have to be sent."""
        if self._lines:
            lines, self._lines = self._lines, []
            try:
                self._journal.record(*lines)
            except Exception as error:  # noqa: BLE001 - as above
                self._journal.report_error(error, len(lines))

    def tick(self) -> float:
        """Do what is due without a line; return the seconds until the next call."""
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


@dataclass(slots=True, eq=False)
class _PendingRecord:
    """A line on its way to the thread, and the future that its reply waits for, if any."""

    body: bytes
    reply: asyncio.Future[bool] | None = None
    timer: asyncio.TimerHandle | None = None
    is_recorded: bool | None = None
    """Set by the thread; unknown until then."""
    is_late: bool = False
    """True where the time was over before that, and so its decision is not sent."""


class GroupCommitSink(JournalSink):
    """Takes lines on the event loop, and writes them in a thread. ``capacity`` in bytes.

    ``answers``: a reply is sent even if its line is not recorded. ``least``: the least durable
    result that counts as recorded.
    """

    def __init__(
        self,
        journal: Journal,
        capacity: int,
        timeout: float = RECORD_TIMEOUT_S,
        *,
        answers: bool = True,
        least: WriteResult = WriteResult.BUFFERED,
    ) -> None:
        super().__init__(journal, answers=answers)
        self._capacity = capacity
        self._timeout = timeout
        self._least = least
        if not answers:
            journal.sync_limit = timeout
        self._queue: list[_PendingRecord] = []
        self._queued_bytes = 0
        """Bytes of lines that the thread has not taken yet."""
        self._group: list[_PendingRecord] = []
        """The lines that the thread is writing."""
        self._lost = 0
        """Lines lost since the thread last took the queue."""
        self._writing_since: float | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="pexpolicy-audit", daemon=True)
        self._thread.start()

    def record(self, line: bytes) -> Awaitable[bool] | None:
        """Queue a line."""
        since = self._writing_since
        is_stuck = since is not None and time.monotonic() - since > self._timeout
        if self._queued_bytes + len(line) > self._capacity or (is_stuck and not self._answers):
            self._journal.mark_failed(DISK_TOO_SLOW)
            with self._changed:
                self._lost += 1
            return self.lost()
        entry = _PendingRecord(line)
        if not is_stuck:
            loop = asyncio.get_running_loop()
            entry.reply = loop.create_future()
            entry.timer = loop.call_later(self._timeout, self._time_out, entry)
        with self._changed:
            self._queue.append(entry)
            self._queued_bytes += len(line)
            self._changed.notify()
        if is_stuck:
            self._journal.mark_stuck(self._queued_bytes)
        return entry.reply

    def _time_out(self, entry: _PendingRecord) -> None:
        with self._changed:
            entry.is_late = entry.is_recorded is None and not self._answers
        if entry.is_late:
            self._journal.mark_failed(DISK_TOO_SLOW)
        self._release([entry])

    def _release(self, entries: Iterable[_PendingRecord]) -> None:
        """Release the replies that wait for these lines; on the event loop."""
        for entry in entries:
            if entry.timer is not None:
                entry.timer.cancel()
            if entry.reply is not None and not entry.reply.done():
                entry.reply.set_result(bool(entry.is_recorded) or self._answers)

    def tick(self) -> float:
        """Leave what is due to the thread."""
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
            self._journal.report_unwritten(sum(not entry.is_late for entry in waiting))

    def _run(self) -> None:
        pause = CHECK_INTERVAL_S
        while True:
            with self._changed:
                if not self._queue and not self._closed:
                    self._changed.wait(pause)
                self._group = group = self._queue
                self._queue, self._queued_bytes = [], 0
                self._journal.state.queued_bytes = 0
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
                self._journal.close()
                return
            self._writing_since = None

    def _write(self, group: list[_PendingRecord]) -> None:
        results: list[tuple[_PendingRecord, WriteResult]] = []
        for entry in group:
            # Entries may time out while an earlier one is being written.
            if entry.is_late:
                self._journal.count_lost(1)
            else:
                results.append((entry, self._record(entry.body)))
        if not results:
            return
        is_synced = self._sync()
        with self._changed:
            for entry, result in results:
                entry.is_recorded = is_synced and result >= self._least
            stored = [entry for entry, result in results if result is not WriteResult.LOST]
            unsent = [entry for entry in stored if entry.is_late or not is_synced]
        if unsent and not self._answers:
            self._retract(unsent)
        awaited = [entry for entry, _ in results if entry.reply is not None]
        if awaited and (reply := awaited[0].reply) is not None:
            with suppress(RuntimeError):  # the loop has ended
                reply.get_loop().call_soon_threadsafe(self._release, awaited)

    def _sync(self) -> bool:
        """Wait for the disk; return false where the lines are not on it."""
        try:
            self._journal.sync()
        except OSError:
            if not self._answers:
                self._journal.mark_failed(NOT_SYNCED)
            return False
        return True

    def _retract(self, entries: Iterable[_PendingRecord]) -> None:
        """Retract the decisions among lines that are in the file although they are not sent.

        The line of a shadow has the ``decision_id`` of a decision that may have been sent.
        """
        for entry in entries:
            event = msgspec.json.decode(entry.body)
            if event["event"] == "decision":
                why = "not recorded in time: the audit was unavailable when the reply was sent"
                named = {name: event.get(name) for name in ("decision_id", "policy_hash")}
                self._record(encode(line_of("retracted", reason=why, **named)))
        self._sync()

    def _record(self, body: bytes) -> WriteResult:
        try:
            return self._journal.record(body)
        except Exception as error:  # noqa: BLE001 - the other lines must still be synced
            self._journal.report_error(error, 1)
            return WriteResult.LOST
