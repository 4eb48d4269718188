"""Sinks: the end of structlog's chain, which hand rendered lines to the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from contextvars import Context
from typing import Protocol

from pexpolicy.audit.journal import INTERNAL_ERROR, Journal

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


class DirectSink(Sink):
    """Writes at once: for level ``file`` where a reply depends on its line, and for streams."""

    def __init__(self, journal: Journal, *, answers: bool) -> None:
        """``answers``: a reply is sent even if its line is lost."""
        self._journal = journal
        self._answers = answers

    def info(self, line: bytes) -> Awaitable[bool] | None:
        """Write or store a line."""
        if self._journal.record(line) or self._answers:
            return None
        return NotRecorded()

    def tick(self) -> float:
        """Do what is due without a line."""
        return self._journal.tick()

    def reopen(self) -> None:
        """Open the file again, now."""
        self._journal.reopen()
        self._journal.tick()

    def close(self) -> None:
        """Write waiting lines, and close the file."""
        self._journal.close()


class BatchingSink(DirectSink):
    """Writes the lines of one turn of the event loop together, before their replies are sent: for a
    file at level ``file``, where a reply is sent even if its line is lost.

    One write for n lines takes half the processor time of n writes.
    """

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal, answers=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = Context()
        self._lines: list[bytes] = []

    def info(self, line: bytes) -> None:
        """Take a line; write it with others of this turn while batching is on."""
        if self._loop is None:
            self._journal.record(line)
            return
        self._lines.append(line)
        count = len(self._lines)
        if count == 1:
            self._loop.call_soon(self.flush, context=self._context)
        elif count == MAX_BATCH:
            self.flush()

    def set_batching(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Batch lines until ``flush`` or the next turn of ``loop``, or stop batching."""
        self.flush()
        self._loop = loop

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

    def reopen(self) -> None:
        """Open the file again, now; batched lines belong to the old one."""
        self.flush()
        super().reopen()

    def close(self) -> None:
        """Write batched and waiting lines, and close the file."""
        self.flush()
        super().close()
