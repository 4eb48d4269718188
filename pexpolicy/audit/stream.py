"""A pipe, a socket or a terminal that lines are written to without ever waiting for its reader."""

from __future__ import annotations

import os
import select
import socket
import stat
import time
from contextlib import suppress


class Stream:
    """The other end of a descriptor, such as standard output. A reader that has stalled makes
    ``write`` raise ``BlockingIOError``.

    It is opened a second time, or sent to with a flag, because whether a write waits is a property
    that the programs share which share the descriptor. A line of up to ``PIPE_BUF`` bytes (4,096)
    is written whole; of a longer one the rest is kept and goes first.
    """

    retry = 0.02
    """Seconds between two attempts after a write that failed."""
    size = 0

    def __init__(self, descriptor: int) -> None:
        self._socket: socket.socket | None = None
        self._rest = b""
        self._may_wait = False
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
            self._descriptor = self._socket.fileno()
            return
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        try:
            self._descriptor = os.open(f"/dev/fd/{descriptor}", flags)
        except OSError:
            self._descriptor = os.dup(descriptor)
            self._may_wait = True

    def write(self, lines: bytes) -> None:
        """Write, or keep what is left of lines that were begun; raises ``OSError``."""
        self._send_rest()
        if self._rest:
            raise BlockingIOError
        self._rest = lines[self._send(lines) :]
        self._send_rest()

    def _send_rest(self) -> None:
        with suppress(BlockingIOError):
            while self._rest:
                self._rest = self._rest[self._send(self._rest) :]

    def _send(self, content: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(content, socket.MSG_DONTWAIT)
        if self._may_wait:
            if not select.select((), (self._descriptor,), (), 0)[1]:
                raise BlockingIOError
            content = content[: select.PIPE_BUF]
        return os.write(self._descriptor, content)

    def sync(self) -> None:
        """A stream has no disk."""

    def is_current(self) -> bool:
        """A stream has no path that could lead elsewhere."""
        return True

    def renew(self) -> bool:
        """A stream cannot be opened anew."""
        return False

    def space(self) -> tuple[int, int] | None:
        """A stream has no disk."""
        return None

    def close(self, patience: float) -> None:
        """Write what is left of a line for so many seconds, and close it."""
        ends = time.monotonic() + patience
        with suppress(OSError):
            while self._rest and (left := ends - time.monotonic()) > 0:
                select.select((), (self._descriptor,), (), left)
                self._send_rest()
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._descriptor)
