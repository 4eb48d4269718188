"""The end of structlog's chain: where a rendered line is handed to the journal."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Protocol

from pexpolicy.audit.journal import Journal


class Sink(Protocol):
    """Takes lines."""

    def info(self, line: bytes) -> Awaitable[bool] | None:
        """Take a line, a JSON object without a line end.

        ``None`` once nothing stands in the way of the reply; else what to wait for, which gives
        false when the reply must not leave, because the line is not recorded.
        """

    def tick(self) -> float:
        """Do what is due without a line; gives the seconds until it should be called again."""

    def reopen(self) -> None:
        """Open the file anew."""

    def close(self) -> None:
        """Write what waits, and close the file."""


class Unrecorded(Awaitable[bool]):
    """What to wait for where a line is lost already: false, at once."""

    def __await__(self) -> Generator[None, None, bool]:
        return False
        yield


class Inline:
    """Writes at once: the write has returned when the reply leaves. For the level ``file``."""

    def __init__(self, journal: Journal, *, answers: bool) -> None:
        """``answers``: the reply leaves even where its line is lost."""
        self._journal = journal
        self._answers = answers

    def info(self, line: bytes) -> Awaitable[bool] | None:
        """Write a line, or let it wait."""
        if self._journal.record(line) or self._answers:
            return None
        return Unrecorded()

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
