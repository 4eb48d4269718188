"""Where connections come in: each is looked at before a byte of it is read.

The server accepts them itself instead of leaving that to the event loop, so that an address that
is not allowed costs no TLS handshake, and one that has not shaken hands yet counts as well.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from pexpolicy.access.access_control import AccessControl
from pexpolicy.access.certificates import Certificates
from pexpolicy.access.connections import Connection, ConnectionLimitError, Connections
from pexpolicy.access.memory import Watermark
from pexpolicy.access.refusals import (
    CLOSED,
    CROWDED,
    EVICTED,
    HANDSHAKE_FAILED,
    MEMORY,
    NOT_ALLOWED,
    RefusalLog,
)
from pexpolicy.config.schema.access import LimitsTable
from pexpolicy.tasks import hide, start_background

AT_ONCE = 64
"""Connections that are accepted before calls have their turn again."""
EXHAUSTED_PAUSE = 0.5
"""Seconds without accepting while the process or the machine has no descriptor or memory left."""
LAST_GREETINGS = 1.0
"""Seconds for handshakes that have begun when no more connections are accepted."""
GOODBYE = 1.0
"""Seconds in which a client may answer the end of a TLS connection."""
LOOK = 0.25
"""Seconds between two looks at the memory of the process."""
SPARED = 32
"""The newest strangers, which stay open though the memory is short: a node is one of them until
its first call is admitted, and it has to be able to make that call.
"""
SPARED_FOR = 1.0
"""Seconds that they have for it."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

Protocol = Callable[[Connection], asyncio.Protocol]


class Acceptor:
    """Accepts connections on listening sockets, and gives each allowed one a protocol.

    ``gate`` gives the gate that counts now. Without ``certificates`` it speaks plain HTTP. A door
    that ``shares`` its sockets with other processes takes one connection at a time, so that each of
    them gets its part. While ``memory`` is exceeded, strangers are closed.
    """

    def __init__(
        self,
        protocol: Protocol,
        gate: Callable[[], AccessControl],
        refusals: RefusalLog,
        limits: LimitsTable,
        certificates: Certificates | None = None,
        memory: Watermark | None = None,
        *,
        shares: bool = False,
    ) -> None:
        self.connections = Connections(limits.connections, limits.connections_per_peer)
        self.certificates = certificates
        self._protocol = protocol
        self._gate = gate
        self._refusals = refusals
        self._limits = limits
        self._at_once = 1 if shares else AT_ONCE
        self._greetings: set[asyncio.Task[None]] = set()
        self._memory = memory
        self._look: asyncio.TimerHandle | None = None
        self._has_spared = False
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}

    @asynccontextmanager
    async def open(self, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        """Accept connections, until it is left; those that are open stay. Closes the sockets."""
        loop = asyncio.get_running_loop()
        watching = None
        if self.certificates is not None:
            watching = loop.create_task(self.certificates.watch())
            hide(watching)
        for listener in sockets:
            listener.settimeout(0)
            # Connections inherit it: the system keeps no more of what nothing has read yet.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._limits.header_bytes)
            loop.add_reader(listener, self._accept, listener)
        self._look_at_memory()
        try:
            yield
        finally:
            if self._look is not None:
                self._look.cancel()
            for listener in sockets:
                self._shut(listener)
            if watching is not None:
                watching.cancel()
            await self._greeted()

    def _look_at_memory(self) -> None:
        if self._memory is not None:
            if self._has_spared:
                self._memory.give_back()
                self._has_spared = False
            self._memory.look()
            self._spare_memory()
            self._look = asyncio.get_running_loop().call_later(LOOK, self._look_at_memory)

    def _spare_memory(self) -> None:
        """Close strangers where the process holds more memory than it may."""
        if self._memory is not None and self._memory.is_exceeded:
            since = asyncio.get_running_loop().time() - SPARED_FOR
            for displaced in self.connections.evict(SPARED, since):
                self._refusals.note(MEMORY, CLOSED, displaced.peer)
                self._has_spared = True

    async def _greeted(self) -> None:
        """Let those in who were accepted already: their calls are under way."""
        if self._greetings:
            await asyncio.wait(self._greetings, timeout=LAST_GREETINGS)
        for greeting in self._greetings:
            greeting.cancel()
        await asyncio.gather(*self._greetings, return_exceptions=True)

    def _shut(self, listener: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(listener)
        if (pause := self._pauses.pop(listener, None)) is not None:
            pause.cancel()
        listener.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(self._at_once):
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(listener)
                    return
                continue  # the client is gone already
            self._receive(accepted, _plain(address[0]))

    def _rest(self, listener: socket.socket) -> None:
        """Stop accepting for a moment: the socket would be ready again at once."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def resume() -> None:
            del self._pauses[listener]
            loop.add_reader(listener, self._accept, listener)

        self._pauses[listener] = loop.call_later(EXHAUSTED_PAUSE, resume)

    def _receive(self, accepted: socket.socket, peer: str) -> None:
        """Let a connection in, or close it without a byte."""
        gate = self._gate()
        if not gate.may_connect(peer):
            accepted.close()
            self._refusals.note(NOT_ALLOWED, CLOSED, peer)
            return
        loop = asyncio.get_running_loop()
        connection = Connection(peer, loop.time(), accepted.close)
        try:
            displaced = self.connections.add(connection, shared=gate.is_proxy(peer))
        except ConnectionLimitError:
            accepted.close()
            self._refusals.note(CROWDED, CLOSED, peer)
            return
        if displaced is not None:
            self._refusals.note(EVICTED, CLOSED, displaced.peer)
        self._spare_memory()
        accepted.settimeout(0)
        greeting = start_background(self._greet(connection, accepted), self._greetings)
        connection.close = greeting.cancel

        def greeted(task: asyncio.Task[None]) -> None:
            if task.cancelled():
                accepted.close()
                connection.ended()

        greeting.add_done_callback(greeted)

    async def _greet(self, connection: Connection, accepted: socket.socket) -> None:
        """Hand a connection to a protocol of its own, behind the TLS handshake if there is one."""
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            return self._protocol(connection)

        try:
            if self.certificates is None:
                await loop.connect_accepted_socket(protocol, accepted)
            else:
                await loop.connect_accepted_socket(
                    protocol,
                    accepted,
                    ssl=self.certificates.context,
                    ssl_handshake_timeout=self._limits.request_seconds,
                    ssl_shutdown_timeout=GOODBYE,
                )
        except OSError as error:
            connection.ended()
            if said := _said(error):
                self._refusals.note(HANDSHAKE_FAILED, CLOSED, connection.peer, detail=said)


def _said(error: OSError) -> str:
    """What kept a handshake from its end; nothing for a client that just went away."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "unknown").replace("_", " ").lower()
    if isinstance(error, ConnectionAbortedError):
        return "the handshake took too long"
    return ""


def _plain(address: str) -> str:
    """An address as IPv4 where it is IPv4 that came to an IPv6 socket."""
    return address.removeprefix("::ffff:") if "." in address else address
