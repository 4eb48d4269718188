"""The queue of TLS handshakes with unknown addresses.

A handshake takes as much CPU time as several calls, and costs a client that does not finish it
nothing. Without a queue, hundreds of them that arrive together would delay the calls of nodes.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict, deque
from collections.abc import Callable

from pexpolicy.access.connections import Connection

Start = Callable[[Connection, socket.socket], None]
"""Starts the handshake of an accepted connection."""


MAX_RECENT = 8192
"""Addresses that are stored; the one that has been there longest is removed first."""


class HandshakeQueue:
    """Starts one handshake in each turn of the event loop, in the order in which clients send.

    The first one of an address within ``seconds`` is started before repeated ones. A client that
    sends nothing for ``seconds`` is closed, and ``on_timeout`` is called.
    """

    def __init__(
        self, start: Start, on_timeout: Callable[[Connection], None], seconds: float
    ) -> None:
        self._start = start
        self._on_timeout = on_timeout
        self._seconds = seconds
        self._silent: dict[Connection, tuple[socket.socket, asyncio.TimerHandle]] = {}
        self._first: deque[tuple[Connection, socket.socket]] = deque()
        self._repeated: deque[tuple[Connection, socket.socket]] = deque()
        self._recent: OrderedDict[str, float] = OrderedDict()
        """When a client at an address has begun a handshake."""
        self._is_scheduled = False

    def put(self, connection: Connection, accepted: socket.socket) -> None:
        """Start the handshake later, or never if the connection is closed before."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._seconds, self._time_out, connection)
        self._silent[connection] = accepted, timer
        connection.close = lambda: self._close(connection)
        loop.add_reader(accepted, self._on_data, connection)

    def _on_data(self, connection: Connection) -> None:
        accepted = self._take(connection)
        connection.close = accepted.close
        connection.progressed()
        is_repeated = self._is_repeated(connection.origin)
        (self._repeated if is_repeated else self._first).append((connection, accepted))
        self._schedule()

    def _is_repeated(self, key: str) -> bool:
        """Return whether another handshake of an address has begun lately; store this one."""
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
        while queue := self._first or self._repeated:
            connection, accepted = queue.popleft()
            if accepted.fileno() >= 0:  # otherwise it was closed in the queue
                connection.progressed()
                self._start(connection, accepted)
                break
        self._schedule()

    def _take(self, connection: Connection) -> socket.socket:
        """Stop waiting for data of a connection, and return its socket."""
        accepted, timer = self._silent.pop(connection)
        timer.cancel()
        asyncio.get_running_loop().remove_reader(accepted)
        return accepted

    def _close(self, connection: Connection) -> None:
        self._take(connection).close()
        connection.ended()

    def _time_out(self, connection: Connection) -> None:
        self._close(connection)
        self._on_timeout(connection)

    def start_all(self) -> None:
        """Start the handshakes that are still in the queue."""
        while self._silent:
            connection = next(iter(self._silent))
            self._start(connection, self._take(connection))
        for queue in (self._first, self._repeated):
            for connection, accepted in queue:
                if accepted.fileno() >= 0:
                    self._start(connection, accepted)
            queue.clear()
