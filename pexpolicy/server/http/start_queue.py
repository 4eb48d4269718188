"""The start queue: accepted connections that have sent nothing yet, or wait for their turn.

Until it is started, a connection is a socket without a transport, a protocol or a task. Starting
one and answering it costs ten times as much as accepting it, and a TLS handshake more. Without a
queue, thousands of clients that connect together would delay the calls of nodes.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from pexpolicy.access.connections import Connection, Stage, nothing_unread
from pexpolicy.server.http.early_refusal import refuse_nothing

Start = Callable[[Connection, socket.socket], None]
"""Creates the protocol of an accepted connection."""
_Queue = OrderedDict[Connection, tuple[socket.socket, Start]]

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
        self._first = _Queue()
        self._repeated = _Queue()
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
            self._wait(connection, accepted, examined)
        elif not data:
            self._stop_waiting(connection)
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
        is_waiting = connection in self._incomplete
        # Its place in the order of the deadlines stays the same.
        self._incomplete[connection] = accepted, examined
        if is_waiting:
            return
        loop = asyncio.get_running_loop()
        connection.close = partial(self._close, connection)
        loop.add_reader(accepted, self._on_data, connection)
        if self._timer is None:
            self._timer = loop.call_at(connection.since + self._seconds, self._close_late)

    def _on_data(self, connection: Connection) -> None:
        self._examine(connection, *self._incomplete[connection])

    def _enqueue(self, connection: Connection, accepted: socket.socket, start: Start) -> None:
        self._stop_waiting(connection)
        connection.has_unread = nothing_unread
        if self._is_repeated(connection.origin):
            connection.move_to(Stage.REPEATED)
            queue = self._repeated
        else:
            connection.move_to(Stage.WAITING)
            queue = self._first
        queue[connection] = accepted, start
        connection.close = partial(_close_queued, queue, connection)
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
        while started < self._per_turn and (queue := self._first or self._repeated):
            connection, (accepted, start) = queue.popitem(last=queue is self._first)
            connection.close = accepted.close
            start(connection, accepted)
            started += 1
        self._schedule()

    def _stop_waiting(self, connection: Connection) -> None:
        """Wait for no more data of a connection, if it was waited for."""
        if (waiting := self._incomplete.pop(connection, None)) is not None:
            accepted, examined = waiting
            asyncio.get_running_loop().remove_reader(accepted)
            if examined:
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def _close(self, connection: Connection) -> bool:
        """Close a connection; return whether it has sent anything."""
        accepted, examined = self._incomplete[connection]
        self._stop_waiting(connection)
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
            connection, (accepted, _) = next(iter(self._incomplete.items()))
            self._stop_waiting(connection)
            self._start(connection, accepted)
        for queue in (self._first, self._repeated):
            while queue:
                connection, (accepted, start) = queue.popitem(last=False)
                connection.close = accepted.close
                start(connection, accepted)


def _close_queued(queue: _Queue, connection: Connection) -> None:
    """Close a connection and remove it from its queue: one that is evicted takes no memory."""
    accepted, _ = queue.pop(connection)
    connection.close = accepted.close
    accepted.close()


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
