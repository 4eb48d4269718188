"""A thread that writes: for the levels at which a reply waits for the disk.

All lines that came while the disk was busy are written and brought to the disk together, so one
``fdatasync`` serves many calls, and a line waits for the one that is under way and for its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from pexpolicy.audit.backlog import WriteResult
from pexpolicy.audit.journal import LOOK, TOO_SLOW, Journal
from pexpolicy.audit.sinks import NotRecorded, Sink
from pexpolicy.audit.state import AuditState

LIMIT = 0.25
"""Seconds that a reply waits for its line."""
ENDING = 2.0
"""Seconds for the thread to end."""


@dataclass(frozen=True)
class Durability:
    """What holds when a reply leaves, whose line is on the disk by then."""

    answers: bool = True
    """It leaves even where its line is not recorded."""
    least: WriteResult = WriteResult.HELD
    """The least that counts as recorded."""


class _PendingRecord:
    """A line on its way to the thread, and the reply that waits for it, if one does."""

    __slots__ = ("body", "given_up", "loop", "recorded", "timer")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.recorded: asyncio.Future[bool] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.given_up = False


class GroupCommitSink(Sink):
    """Takes lines on the event loop, and writes them in a thread. ``room`` in bytes."""

    def __init__(
        self,
        journal: Journal,
        promise: Durability,
        room: int,
        limit: float = LIMIT,
    ) -> None:
        self._journal = journal
        self._promise = promise
        self._room = room
        self._limit = limit
        self._queue: list[_PendingRecord] = []
        self._queued = 0
        """Bytes of lines that the thread has not taken yet."""
        self._lost = 0
        """Lines that were given up since the thread looked last."""
        self._writing_since: float | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="pexpolicy-audit", daemon=True)
        self._thread.start()

    @property
    def state(self) -> AuditState:
        """How the audit is doing."""
        return self._journal.state

    def info(self, line: bytes) -> Awaitable[bool] | None:
        """Take a line."""
        answers = self._promise.answers
        since = self._writing_since
        stuck = since is not None and time.monotonic() - since > self._limit
        if self._queued + len(line) > self._room or (stuck and not answers):
            self._journal.fail(TOO_SLOW)
            with self._changed:
                self._lost += 1
            return None if answers else NotRecorded()
        entry = _PendingRecord(line)
        if not stuck:
            self._await(entry)
        self._take(entry)
        return entry.recorded

    def _take(self, entry: _PendingRecord) -> None:
        with self._changed:
            self._queue.append(entry)
            self._queued += len(entry.body)
            self._changed.notify()

    def _await(self, entry: _PendingRecord) -> None:
        entry.loop = loop = asyncio.get_running_loop()
        entry.recorded = loop.create_future()
        entry.timer = loop.call_later(self._limit, self._give_up, entry)

    def _give_up(self, entry: _PendingRecord) -> None:
        assert entry.recorded is not None
        if not entry.recorded.done():
            entry.given_up = not self._promise.answers
            entry.recorded.set_result(self._promise.answers)

    def tick(self) -> float:
        """The thread does by itself what is due."""
        return LOOK

    def reopen(self) -> None:
        """Open the file anew."""
        self._journal.reopen()
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Write what was taken, and close the file; a thread that is stuck is left behind."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(ENDING)

    def _run(self) -> None:
        pause = LOOK
        while True:
            with self._changed:
                if not self._queue and not self._closed:
                    self._changed.wait(pause)
                group, self._queue, self._queued = self._queue, [], 0
                lost, self._lost = self._lost, 0
                closed = self._closed
            self._writing_since = time.monotonic()
            try:
                self._journal.lose(lost)
                self._write(group)
                pause = self._journal.tick()
            except Exception as error:  # noqa: BLE001 - without this thread nothing is recorded
                self._journal.fault(error)
            if closed and not group:
                self._journal.close()
                return
            self._writing_since = None

    def _write(self, group: list[_PendingRecord]) -> None:
        kept: list[tuple[_PendingRecord, WriteResult]] = []
        for entry in group:
            # While one line is being written the next ones may be given up.
            if entry.given_up:
                self._journal.lose(1)
            else:
                kept.append((entry, self._journal.record(entry.body)))
        least: int = self._promise.least
        if kept:
            try:
                self._journal.sync()
            except OSError:
                least = WriteResult.WRITTEN + 1
        waiting = [(entry, found >= least) for entry, found in kept if entry.loop is not None]
        if waiting:
            loop = waiting[0][0].loop
            assert loop is not None
            try:
                loop.call_soon_threadsafe(self._tell, waiting)
            except RuntimeError:
                return  # the loop has ended

    def _tell(self, waiting: list[tuple[_PendingRecord, bool]]) -> None:
        """Let the replies go whose lines are recorded, and take back lines that came too late."""
        for entry, recorded in waiting:
            assert entry.recorded is not None
            assert entry.timer is not None
            entry.timer.cancel()
            if not entry.recorded.done():
                entry.recorded.set_result(recorded or self._promise.answers)
            if entry.given_up and recorded:
                self._take(_PendingRecord(retraction_record(entry.body)))


def retraction_record(line: bytes) -> bytes:
    """The line that takes another one back: its decision was not sent."""
    said = msgspec.json.decode(line)
    back = {
        "timestamp": datetime.now(UTC),
        "event": "withdrawn",
        "decision_id": said.get("decision_id"),
        "reason": "it was recorded too late: the audit was unavailable when the reply left",
        "config_hash": said.get("config_hash"),
    }
    return msgspec.json.encode(back)
