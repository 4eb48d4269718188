"""The start queue: accepted connections that have sent nothing yet, or wait for their turn.

Until it is started, a connection is a socket without a transport, a protocol or a task. Starting
one and answering it costs ten times as much as accepting it, and a TLS handshake more. Without a
queue, thousands of clients that connect together would delay the calls of nodes.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial

from pexpolicy.access.connections import Connection, Stage, nothing_unread
from pexpolicy.server.http.early_refusal import refuse_nothing

Start = Callable[[Connection, socket.socket], None]
"""Creates the protocol of an accepted connection."""

PEEK_BYTES = 16384
"""Bytes of the first data that are examined."""
MAX_PEEK_BYTES = 65537
"""Bytes that are examined if there are more: one more than the default of `header_bytes`."""
MAX_EXAMINED = 4
"""Times that a client's first data are examined: it may send them in many pieces."""
MAX_RECENT = 8192
"""Addresses that are stored; the one that has been there longest is removed first."""
_TLS_HEADER = 5
"""Bytes before the message in a TLS record; the last two are its length."""
_HANDSHAKE = 22
"""First byte of a TLS record with a handshake message."""


def is_whole_head(data: bytes) -> bool:
    """Return whether data has a request head, or cannot become one."""
    return b"\r\n\r\n" in data or not b"A" <= data[:1] <= b"Z"


def is_whole_hello(data: bytes) -> bool:
    """Return whether data has the first message of a TLS client, or cannot become one."""
    if data[0] != _HANDSHAKE:
        return True
    length = int.from_bytes(data[3:_TLS_HEADER], "big")
    return len(data) >= _TLS_HEADER and len(data) >= _TLS_HEADER + length


class StartQueue:
    """Starts connections whose first data has arrived, ``per_turn`` in a turn of the event loop.

    Those from addresses of right credentials are started at once, silent or not. Then come those
    whose origin has sent nothing else within ``seconds``, the newest first: each of a thousand
    clients that connect together may be a node, and the last to come is the one that can still be
    answered in time. Repeated ones are last.

    ``is_whole`` returns whether the first data is enough to start with. A client that sends too
    little for ``seconds`` is closed, and ``on_timeout`` is called with the connection and whether
    anything was received. ``refusal`` returns what refuses a connection for its first data, in
    place of ``start``.
    """

    def __init__(
        self,
        start: Start,
        on_timeout: Callable[[Connection, bool], None],
        seconds: float,
        is_whole: Callable[[bytes], bool],
        per_turn: int,
        refusal: Callable[[bytes], Start | None] = refuse_nothing,
    ) -> None:
        self._start = start
        self._refusal = refusal
        self._on_timeout = on_timeout
        self._seconds = seconds
        self._is_whole = is_whole
        self._per_turn = per_turn
        self._incomplete: dict[Connection, tuple[socket.socket, int]] = {}
        """Connections from which too little was received, in the order of their deadlines, and how
        often data of theirs were examined.
        """
        self._timer: asyncio.TimerHandle | None = None
        self._first: deque[tuple[Connection, socket.socket, Start]] = deque()
        self._repeated: deque[tuple[Connection, socket.socket, Start]] = deque()
        self._recent: OrderedDict[str, float] = OrderedDict()
        """When a client at an address has sent its first data."""
        self._is_scheduled = False

    def put(self, connection: Connection, accepted: socket.socket) -> None:
        """Start the connection now or later, or never if it is closed before.

        One that has been closed by its client is closed.
        """
        if connection.stage is Stage.KNOWN:
            self._start(connection, accepted)
        else:
            self._examine(connection, accepted, 0)

    @property
    def newcomers(self) -> int:
        """The number of first connections of their origin that wait for their turn."""
        return len(self._first)

    def _examine(self, connection: Connection, accepted: socket.socket, examined: int) -> None:
        """Start, refuse or wait for a connection whose data were ``examined`` so often."""
        data = _peek(accepted, PEEK_BYTES)
        if data is not None and len(data) == PEEK_BYTES and not self._is_whole(data):
            data = _peek(accepted, MAX_PEEK_BYTES)
        if data is None:
            connection.has_unread = partial(has_unread, accepted)
            self._wait(connection, accepted, 0)
        elif not data:
            accepted.close()
            connection.ended()
        elif (refuse := self._refusal(data)) is not None:
            self._enqueue(connection, accepted, refuse)
        elif self._is_whole(data) or examined == MAX_EXAMINED:
            self._enqueue(connection, accepted, self._start)
        else:
            connection.received_part()
            # The socket is not readable again until more has arrived.
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(data) + 1)
            self._wait(connection, accepted, examined + 1)

    def _wait(self, connection: Connection, accepted: socket.socket, examined: int) -> None:
        loop = asyncio.get_running_loop()
        self._incomplete[connection] = accepted, examined
        connection.close = partial(self._close, connection)
        loop.add_reader(accepted, self._on_data, connection)
        if self._timer is None:
            self._timer = loop.call_at(connection.since + self._seconds, self._close_late)

    def _on_data(self, connection: Connection) -> None:
        self._examine(connection, *self._take(connection))

    def _enqueue(self, connection: Connection, accepted: socket.socket, start: Start) -> None:
        connection.close = accepted.close
        connection.has_unread = nothing_unread
        if self._is_repeated(connection.origin):
            connection.move_to(Stage.REPEATED)
            self._repeated.append((connection, accepted, start))
        else:
            connection.move_to(Stage.WAITING)
            self._first.append((connection, accepted, start))
        self._schedule()

    def _is_repeated(self, key: str) -> bool:
        """Return whether another connection of an address has sent lately; store this one."""
        now = asyncio.get_running_loop().time()
        before = self._recent.pop(key, None)
        self._recent[key] = now
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
        return before is not None and now - before < self._seconds

    def _schedule(self) -> None:
        if (self._first or self._repeated) and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._start_next)

    def _start_next(self) -> None:
        self._is_scheduled = False
        started = 0
        while started < self._per_turn and (self._first or self._repeated):
            queued = self._first.pop() if self._first else self._repeated.popleft()
            connection, accepted, start = queued
            if accepted.fileno() >= 0:  # otherwise it was closed in the queue
                start(connection, accepted)
                started += 1
        self._schedule()

    def _take(self, connection: Connection) -> tuple[socket.socket, int]:
        """Stop waiting for data; return the socket, and how often its data were examined."""
        accepted, examined = self._incomplete.pop(connection)
        asyncio.get_running_loop().remove_reader(accepted)
        if examined:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return accepted, examined

    def _close(self, connection: Connection) -> bool:
        """Close a connection; return whether it has sent anything."""
        accepted, examined = self._take(connection)
        accepted.close()
        connection.ended()
        return examined > 0

    def _close_late(self) -> None:
        """Close the connections whose time is over."""
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._incomplete:
            connection = next(iter(self._incomplete))
            deadline = connection.since + self._seconds
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._close_late)
                return
            self._on_timeout(connection, self._close(connection))

    def start_all(self) -> None:
        """Start the connections that are still in the queue."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._incomplete:
            connection = next(iter(self._incomplete))
            self._start(connection, self._take(connection)[0])
        for queue in (self._first, self._repeated):
            for connection, accepted, start in queue:
                if accepted.fileno() >= 0:
                    start(connection, accepted)
            queue.clear()


def _peek(accepted: socket.socket, size: int) -> bytes | None:
    """Return the data that waits in the kernel: ``None`` if there is none yet, and nothing if there
    will be none.
    """
    try:
        return accepted.recv(size, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return b""


def has_unread(accepted: socket.socket) -> bool:
    """Return whether data of a client waits in the kernel."""
    return bool(_peek(accepted, 1))
