"""The live feed: audit lines while they are written, for all streams of the console."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from pexpolicy.audit.reader import follow

CAPACITY = 4000
"""Lines that are kept for streams that are slow."""
RETRY_INTERVAL_S = 0.5


class LiveFeed:
    """Follows the audit file while anybody looks.

    A position is the number of lines read since the console started.
    """

    def __init__(self, audit: Path | None) -> None:
        self._audit = audit
        self._lines: deque[bytes] = deque(maxlen=CAPACITY)
        self._count = 0
        self._lock = threading.Lock()
        self._streams = Counter[str]()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @property
    def streams(self) -> int:
        """Open streams."""
        return self._streams.total()

    def streams_of(self, user: str) -> int:
        """Open streams of one user."""
        return self._streams[user]

    @property
    def position(self) -> int:
        """The position after the newest line."""
        return self._count

    @contextmanager
    def stream(self, user: str) -> Iterator[None]:
        """Follow the file meanwhile."""
        self._streams[user] += 1
        if self._audit is not None and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(
                target=self._follow, args=(self._audit,), name="live", daemon=True
            )
            self._thread.start()
        try:
            yield
        finally:
            self._streams[user] -= 1
            if not self._streams[user]:
                del self._streams[user]

    def since(self, position: int) -> tuple[int, Sequence[bytes], int]:
        """Return the lines after a position, how many of them are no longer there, and the
        position after the newest.
        """
        with self._lock:
            wanted = self._count - position
            kept = min(wanted, len(self._lines))
            lines = list(islice(self._lines, len(self._lines) - kept, None))
            return wanted - kept, lines, self._count

    def close(self) -> None:
        """Stop following."""
        self._is_closed = True

    def _is_wanted(self) -> bool:
        return self.streams > 0 and not self._is_closed

    def _follow(self, audit: Path) -> None:
        while self._is_wanted():
            try:
                for raw in follow(audit, self._is_wanted):
                    with self._lock:
                        self._lines.append(raw.content)
                        self._count += 1
            except OSError:
                # There is no file yet, or its folder is away.
                time.sleep(RETRY_INTERVAL_S)
