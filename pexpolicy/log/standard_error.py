"""Writer of complete lines to standard error, which never delays the caller while serving."""

from __future__ import annotations

import fcntl
import os
import select
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TextIO

MAX_PENDING = 4 * 1024 * 1024
"""Bytes that may wait for a slow reader. Further lines of plugins are left out and counted."""
RESERVED = 256 * 1024
"""Bytes in addition to ``MAX_PENDING``, for lines of the server itself."""
STOP_TIMEOUT_S = 1.0
"""Time for the lines that wait when the server stops."""

Report = Callable[[Mapping[str, int]], str]
"""Returns the line about lines that were left out, counted by plugin."""


class StandardError:
    """Lines to a stream: written at once, or inside ``background()`` by a thread. Thread-safe.

    A line is written whole, also where several processes write to the same pipe. ``report`` makes
    the line about lines that were left out.
    """

    def __init__(self, stream: TextIO, report: Report | None = None) -> None:
        self._stream = stream
        self.report = report
        self.is_terminal = stream.isatty()
        self._is_droppable = False
        try:
            self._descriptor: int | None = stream.fileno()
        except (OSError, ValueError, AttributeError):
            self._descriptor = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        # Reentrant: a destructor or signal handler that runs meanwhile may log as well.
        self._lock = threading.RLock()
        self._lines: deque[bytes] = deque()
        self._pending = 0
        self._left_out: Counter[str] = Counter()
        self._is_stopping = False

    def write(self, line: str, plugin: str = "") -> None:
        """Write one line; ``plugin`` is whose line it is, empty for the server's own."""
        content = line.encode("utf-8", "replace") + b"\n"
        thread = self._thread
        # A process that a plugin forked has no such thread.
        if thread is None or not thread.is_alive():
            self._write_now(content, plugin)
            return
        limit = MAX_PENDING if plugin else MAX_PENDING + RESERVED
        with self._lock:
            if self._pending + len(content) > limit:
                self._left_out[plugin] += 1
                return
            self._lines.append(content)
            self._pending += len(content)
        if not self._wake.is_set():
            self._wake.set()

    def _write_now(self, content: bytes, plugin: str) -> None:
        if self._is_droppable and not self._is_writable():
            self._left_out[plugin] += 1
            return
        # A plugin may have closed standard error.
        with suppress(OSError, ValueError):
            if self._left_out and self.report is not None:
                left_out, self._left_out = self._left_out, Counter()
                content = self.report(left_out).encode("utf-8", "replace") + b"\n" + content
            if self._descriptor is None:
                self._stream.write(content.decode())
            else:
                self._stream.flush()
                _write_all(self._descriptor, content)
            self._stream.flush()

    def _is_writable(self) -> bool:
        if self._descriptor is None:
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return any(event & select.POLLOUT for _, event in poll.poll(0))

    def never_wait(self) -> None:
        """Leave out lines while the reader has stalled; for a process without threads."""
        self._is_droppable = True

    @contextmanager
    def background(self) -> Iterator[None]:
        """Write in a thread until exit, and wait at most ``STOP_TIMEOUT_S`` for the last lines."""
        if self._descriptor is None or self._thread is not None:
            yield
            return
        self._is_stopping = False
        # A daemon: where the reader has stalled, the process must end all the same.
        thread = threading.Thread(target=self._run, name="pexpolicy-log", daemon=True)
        thread.start()
        self._thread = thread
        try:
            yield
        finally:
            self._is_stopping = True
            self._wake.set()
            thread.join(STOP_TIMEOUT_S)
            self._thread = None
            if thread.is_alive():
                self.never_wait()
            else:
                self._write_pending()

    def flush(self) -> None:
        """Wait up to ``STOP_TIMEOUT_S`` until the thread has written all lines, and end it."""
        thread = self._thread
        if thread is not None:
            self._is_stopping = True
            self._wake.set()
            thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            is_stopping = self._is_stopping
            self._write_pending()
            if is_stopping:
                return

    def _write_pending(self) -> None:
        assert self._descriptor is not None
        while True:
            with self._lock:
                lines, self._lines = self._lines, deque()
                left_out, self._left_out = self._left_out, Counter()
            if not lines and not left_out:
                return
            if left_out and self.report is not None:
                lines.append(self.report(left_out).encode("utf-8", "replace") + b"\n")
                with self._lock:
                    self._pending += len(lines[-1])
            while lines:
                chunk = _chunk(lines)
                with suppress(OSError, ValueError), _locked(self._descriptor):
                    _write_all(self._descriptor, chunk)
                with self._lock:
                    self._pending -= len(chunk)


def _chunk(lines: deque[bytes]) -> bytes:
    """Remove and return the next lines, as many as a pipe takes whole, but at least one."""
    taken = [lines.popleft()]
    size = len(taken[0])
    while lines and size + len(lines[0]) <= select.PIPE_BUF:
        taken.append(lines.popleft())
        size += len(taken[-1])
    return b"".join(taken)


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Keep other processes of the server from writing.

    A pipe takes ``PIPE_BUF`` bytes whole, and longer lines in pieces.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        try:
            content = content[os.write(descriptor, content) :]
        except BlockingIOError:  # another process has made the pipe non-blocking
            select.select((), (descriptor,), ())
