"""A file or a stream that lines are written to, and whether they are on the disk."""

from __future__ import annotations

from typing import Protocol


class Target(Protocol):
    """A file or a stream that lines are written to. ``retry`` is the seconds between attempts."""

    retry: float

    def write(self, lines: bytes) -> None:
        """Write whole lines; raises ``OSError``, and then none of them was written."""

    def sync(self) -> None:
        """Wait for the disk; raises ``OSError``."""

    def is_current(self) -> bool:
        """Return false when the path leads to another file than the open one."""

    def reopen(self) -> bool:
        """Open the path again; return true when the old content is gone. Raises ``OSError``."""

    def space(self) -> tuple[int, int] | None:
        """Return the free bytes of its disk, and percent."""

    def close(self, timeout: float) -> None:
        """Close it, within ``timeout`` seconds."""


class SyncedTarget:
    """A target whose lines are synced once, where they are synced at all.

    A file that cannot be synced must not fail lines that went to the spool.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._syncs = self._has_unsynced = False
        self._error: OSError | None = None
        self.retry = target.retry
        self.is_current = target.is_current
        self.space = target.space
        self.close = target.close

    def write(self, lines: bytes) -> None:
        """Write whole lines; raises ``OSError``, and then none of them was written."""
        self._target.write(lines)
        self._has_unsynced = True

    def sync(self) -> None:
        """Wait until the lines since the last call are on the disk; raises ``OSError``."""
        self._syncs = True
        error, self._error = self._error, None
        if error is not None:
            raise error
        if self._has_unsynced:
            self._has_unsynced = False
            self._target.sync()

    def reopen(self) -> bool:
        """Sync the lines, and open the path again, as a target does.

        If they cannot be synced, the next ``sync`` fails.
        """
        if self._syncs:
            try:
                self.sync()
            except OSError as error:
                self._error = error
        return self._target.reopen()
