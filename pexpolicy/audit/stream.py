"""Streams: pipes, sockets and terminals that are written to without blocking."""

from __future__ import annotations

import os
import select
import socket
import stat
import time
from contextlib import suppress


class Stream:
    """A non-blocking writer for a descriptor, such as standard output. ``write`` raises
    ``BlockingIOError`` when the reader has stalled.

    The descriptor is opened again, or written with a flag, because ``O_NONBLOCK`` would apply to
    all processes that share it. A line of up to ``PIPE_BUF`` bytes (4,096) is written whole; the
    rest of a longer one is stored and written first.
    """

    retry = 0.02
    """Seconds between attempts after a failed write."""

    def __init__(self, descriptor: int) -> None:
        self._socket: socket.socket | None = None
        self._unsent = b""
        self._may_block = False
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
            self._descriptor = self._socket.fileno()
            return
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        try:
            self._descriptor = os.open(f"/dev/fd/{descriptor}", flags)
        except OSError:
            self._descriptor = os.dup(descriptor)
            self._may_block = True

    def write(self, lines: bytes) -> None:
        """Write lines, or store the rest of lines that were begun; raises ``OSError``."""
        self._send_unsent()
        if self._unsent:
            raise BlockingIOError
        self._unsent = lines[self._send(lines) :]
        self._send_unsent()

    def _send_unsent(self) -> None:
        with suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self._send(self._unsent) :]

    def _send(self, content: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(content, socket.MSG_DONTWAIT)
        if self._may_block:
            if not select.select((), (self._descriptor,), (), 0)[1]:
                raise BlockingIOError
            content = content[: select.PIPE_BUF]
        return os.write(self._descriptor, content)

    def sync(self) -> None:
        """Do nothing: a stream has no disk."""

    def is_current(self) -> bool:
        """Return true: a stream has no path."""
        return True

    def reopen(self) -> bool:
        """Return false: a stream cannot be reopened."""
        return False

    def space(self) -> tuple[int, int] | None:
        """Return ``None``: a stream has no disk."""
        return None

    def close(self, timeout: float) -> None:
        """Write the rest of a line within ``timeout`` seconds, and close it."""
        deadline = time.monotonic() + timeout
        with suppress(OSError):
            while self._unsent and (left := deadline - time.monotonic()) > 0:
                select.select((), (self._descriptor,), (), left)
                self._send_unsent()
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._descriptor)
