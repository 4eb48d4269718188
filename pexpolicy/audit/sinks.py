"""The end of structlog's chain: where a rendered line is handed to the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from contextvars import Context
from typing import Protocol

from pexpolicy.audit.journal import Journal

MOST = 64
"""Lines that are written together."""


class Sink(Protocol):
    """Takes lines."""

    def info(self, line: bytes) -> Awaitable[bool] | None:
        """Take a line, a JSON object without a line end.

        ``None`` once nothing stands in the way of the reply; else what to wait for, which gives
        false when the reply must not leave, because the line is not recorded.
        """

    def gather(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """From now on lines may wait for the next turn of ``loop``, or for ``flush``, which is
        called before a reply leaves; without a loop, no longer. By default none ever waits.
        """
        return

    def flush(self) -> None:
        """Write what was gathered."""
        return

    def tick(self) -> float:
        """Do what is due without a line; gives the seconds until it should be called again."""

    def reopen(self) -> None:
        """Open the file anew."""

    def close(self) -> None:
        """Write what waits, and close the file."""


class NotRecorded(Awaitable[bool]):
    """What to wait for where a line is lost already: false, at once."""

    def __await__(self) -> Generator[None, None, bool]:
        return False
        yield


class DirectSink(Sink):
    """Writes at once: for the level ``file`` where a reply depends on its line, and for streams."""

    def __init__(self, journal: Journal, *, answers: bool) -> None:
        """``answers``: the reply leaves even where its line is lost."""
        self._journal = journal
        self._answers = answers

    def info(self, line: bytes) -> Awaitable[bool] | None:
        """Write a line, or let it wait."""
        if self._journal.record(line) or self._answers:
            return None
        return NotRecorded()

    def tick(self) -> float:
        """Do what is due without a line."""
        return self._journal.tick()

    def reopen(self) -> None:
        """Open the file anew, now."""
        self._journal.reopen()
        self._journal.tick()

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._journal.close()


class BatchingSink(DirectSink):
    """Writes the lines of one turn of the event loop together, before the replies to them leave:
    for a file at the level ``file``, where the reply leaves even if its line is lost.

    One write for many lines takes half the processor time of as many writes.
    """

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal, answers=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = Context()
        self._lines: list[bytes] = []

    def info(self, line: bytes) -> None:
        """Take a line; it is written with others of this turn where lines are gathered."""
        if self._loop is None:
            self._journal.record(line)
            return
        self._lines.append(line)
        count = len(self._lines)
        if count == 1:
            self._loop.call_soon(self.flush, context=self._context)
        elif count == MOST:
            self.flush()

    def gather(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Gather lines until ``flush`` or the next turn of ``loop``, or no longer."""
        self.flush()
        self._loop = loop

    def flush(self) -> None:
        """Write what was gathered. Nothing is raised: replies wait for this, and have to leave."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        try:
            self._journal.record(*lines)
        except Exception as error:  # noqa: BLE001 - see above
            self._journal.fault(error)
            self._journal.lose(len(lines), "a fault of its own")

    def reopen(self) -> None:
        """Open the file anew, now; what was gathered belongs to the old one."""
        self.flush()
        super().reopen()

    def close(self) -> None:
        """Write what was gathered and what waits, and close the file."""
        self.flush()
        super().close()
