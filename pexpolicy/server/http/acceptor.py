"""The acceptor: accepts connections, filters them by address and limits their number.

The event loop does not accept them, because an address that is not allowed must not cost a TLS
handshake, and a connection must count before its handshake is done.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus

from pexpolicy.access.access_control import AccessControl
from pexpolicy.access.certificates import Certificates
from pexpolicy.access.connections import Connection, ConnectionLimitError, Connections, Stage
from pexpolicy.access.memory import Watermark
from pexpolicy.access.refusals import (
    CLOSED,
    CROWDED,
    EVICTED,
    HANDSHAKE_FAILED,
    MEMORY,
    NOT_ALLOWED,
    TIMED_OUT,
    RefusalLog,
)
from pexpolicy.config.schema.limits import LimitsTable
from pexpolicy.server.http.early_refusal import Refuse, refuse_nothing
from pexpolicy.server.http.start_queue import StartQueue, has_unread, is_whole_head, is_whole_hello
from pexpolicy.server.http.tcp_socket import TcpSocket
from pexpolicy.tasks import hide, start_now

ACCEPT_BATCH = 16
"""Connections that are accepted in one turn of the event loop."""
MAX_ACCEPT_BATCH = 64
"""The same while more of them wait, so that none waits long for those before it."""
STARTS = 8
"""Plain connections of unknown addresses that are started in one turn of the event loop."""
HANDSHAKES = 1
"""The same with TLS, whose handshake takes as much CPU time as several calls."""
MAX_NEWCOMERS = 256
"""Plain connections of new addresses that wait for their turn. The kernel queues further ones in
order, answered within a second, and none is evicted. With TLS it would take too long.
"""
MAX_CONNECTIONS = 10_000
"""Connections that one process accepts where its limit of open files allows so many."""
OTHER_DESCRIPTORS = 128
"""Descriptors that are left for files, plugins and other sockets."""
EXHAUSTED_PAUSE_S = 0.5
"""Seconds without accepting after the process or the machine ran out of descriptors or memory."""
MIN_HANDSHAKE_S = 0.1
"""Shortest time for a handshake that had to wait for its turn."""
HANDSHAKE_DRAIN_S = 1.0
"""Seconds to finish pending TLS handshakes on shutdown."""
TLS_SHUTDOWN_S = 1.0
"""Seconds for a client to complete the closing of a TLS connection."""
MEMORY_POLL_S = 0.25
"""Seconds between two measurements of the memory of the process."""
MIN_UNAUTHENTICATED = 32
"""Newest unauthenticated connections that stay open when the memory is short: the connection of a
node is unauthenticated until its first call is admitted, and must be able to make that call.
"""
UNAUTHENTICATED_GRACE_S = 1.0
"""Seconds that they stay open."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_ABOUT_LISTS = {3, 11, 12, 23}
"""Verification errors of OpenSSL about revocation lists: their messages are the reason."""
_TOO_LONG = "the handshake took too long"

Protocol = Callable[[Connection], asyncio.Protocol]


class Acceptor:
    """Accepts connections on listening sockets and creates a protocol for each allowed one.

    ``access`` returns the active access control. Without ``certificates`` it accepts plain HTTP.
    On sockets that are ``shared`` with other processes it accepts one connection per turn, so that
    the connections are distributed. While ``memory`` is exceeded, it closes unauthenticated
    connections.

    A connection is started when its client has sent something. Those of addresses from which no
    right credentials came are queued. ``refusal`` returns what refuses one for its first data.
    """

    def __init__(  # noqa: PLR0913 - they have defaults and names
        self,
        protocol: Protocol,
        access: Callable[[], AccessControl],
        refusals: RefusalLog,
        limits: LimitsTable,
        certificates: Certificates | None = None,
        memory: Watermark | None = None,
        *,
        shared: bool = False,
        refusal: Callable[[bytes], Refuse | None] = refuse_nothing,
    ) -> None:
        total = connection_limit(limits.connections)
        self.connections = Connections(total, limits.connections_per_peer)
        self.certificates = certificates
        self._protocol = protocol
        self._access = access
        self._refusals = refusals
        self._limits = limits
        self._least_batch = self._batch = 1 if shared else ACCEPT_BATCH
        self._handshakes: set[asyncio.Task[None]] = set()
        is_whole, per_turn = (
            (is_whole_head, STARTS) if certificates is None else (is_whole_hello, HANDSHAKES)
        )
        self._queue = StartQueue(
            self._start, self._on_timeout, limits.request_seconds, is_whole, per_turn, refusal
        )
        self._memory = memory
        self._memory_timer: asyncio.TimerHandle | None = None
        self._has_evicted = False
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}

    @asynccontextmanager
    async def open(self, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        """Accept connections until exit; then close the sockets, but not the open connections."""
        loop = asyncio.get_running_loop()
        certificate_watch = None
        if self.certificates is not None:
            certificate_watch = loop.create_task(self.certificates.watch(self._revoke))
            hide(certificate_watch)
        for listener in sockets:
            listener.__class__ = TcpSocket
            listener.settimeout(0)
            # Accepted sockets inherit these, the first of which limits unread data in the kernel.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._limits.header_bytes)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            loop.add_reader(listener, self._accept, listener)
        self._poll_memory()
        try:
            yield
        finally:
            if self._memory_timer is not None:
                self._memory_timer.cancel()
            for listener in sockets:
                self._close_listener(listener)
            if certificate_watch is not None:
                certificate_watch.cancel()
            await self._finish_handshakes()

    def _revoke(self) -> None:
        """Refuse calls on connections whose client certificate has been revoked."""
        assert self.certificates is not None
        for connection, certificate in self.connections.certificates.items():
            if self.certificates.is_revoked(certificate):
                connection.revoke()

    def _poll_memory(self) -> None:
        if self._memory is not None:
            if self._has_evicted:
                self._memory.give_back()
                self._has_evicted = False
            self._memory.look()
            self._relieve_memory()
            self._memory_timer = asyncio.get_running_loop().call_later(
                MEMORY_POLL_S, self._poll_memory
            )

    def _relieve_memory(self) -> None:
        """Close unauthenticated connections while the process exceeds its memory limit."""
        if self._memory is not None and self._memory.is_exceeded:
            since = asyncio.get_running_loop().time() - UNAUTHENTICATED_GRACE_S
            for evicted in self.connections.evict(MIN_UNAUTHENTICATED, since):
                self._refusals.note(MEMORY, CLOSED, evicted.peer)
                self._has_evicted = True

    async def _finish_handshakes(self) -> None:
        self._queue.start_all()
        if self._handshakes:
            await asyncio.wait(self._handshakes, timeout=HANDSHAKE_DRAIN_S)
        for handshake in self._handshakes:
            handshake.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _close_listener(self, listener: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(listener)
        if (pause := self._pauses.pop(listener, None)) is not None:
            pause.cancel()
        listener.close()

    def _accept(self, listener: socket.socket) -> None:
        if self.certificates is None and self._queue.newcomers >= MAX_NEWCOMERS:
            return
        for number in range(self._batch):
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                self._batch = self._least_batch
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # The second time in one turn it is no sign that another client waits.
                    if not number and not self._make_room():
                        self._pause_accepting(listener)
                    return
                continue  # the client has closed the connection
            accepted.__class__ = TcpSocket
            self._receive(accepted, _unmapped(address[0]))
        self._batch = min(2 * self._batch, MAX_ACCEPT_BATCH)

    def _make_room(self) -> bool:
        """Close unauthenticated connections, as at the limit; return whether there were any.

        Otherwise strangers would keep nodes out where fewer descriptors than connections are left.
        """
        keep = max(self.connections.unauthenticated - ACCEPT_BATCH, 0)
        evicted = self.connections.evict(keep, since=0.0)
        for connection in evicted:
            self._refusals.note(EVICTED, CLOSED, connection.peer)
        return bool(evicted)

    def _pause_accepting(self, listener: socket.socket) -> None:
        """Stop accepting for a moment; the ready socket would keep the event loop busy."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def resume() -> None:
            del self._pauses[listener]
            loop.add_reader(listener, self._accept, listener)

        self._pauses[listener] = loop.call_later(EXHAUSTED_PAUSE_S, resume)

    def _receive(self, accepted: socket.socket, peer: str) -> None:
        """Queue a connection, or close it without reading from it."""
        access = self._access()
        if not access.may_connect(peer):
            accepted.close()
            self._refusals.note(NOT_ALLOWED, CLOSED, peer)
            return
        connection = Connection(peer, asyncio.get_running_loop().time(), accepted.close)
        stage = Stage.KNOWN if access.is_known(peer) else Stage.SILENT
        try:
            evicted = self.connections.add(connection, stage, shared=access.is_proxy(peer))
        except ConnectionLimitError:
            accepted.close()
            self._refusals.note(CROWDED, CLOSED, peer)
            return
        if evicted is not None:
            self._refusals.note(EVICTED, CLOSED, evicted.peer)
        accepted.settimeout(0)
        self._queue.put(connection, accepted)
        # This may close the new connection as well.
        self._relieve_memory()

    def _on_timeout(self, connection: Connection, has_sent: bool) -> None:  # noqa: FBT001 - callback
        """Log a client that has not sent enough in time; silence is no refusal without TLS."""
        if self.certificates is not None:
            self._refusals.note(HANDSHAKE_FAILED, CLOSED, connection.peer, detail=_TOO_LONG)
        elif has_sent:
            self._refusals.note(TIMED_OUT, HTTPStatus.REQUEST_TIMEOUT, connection.peer)

    def _start(self, connection: Connection, accepted: socket.socket) -> None:
        if self.certificates is not None and connection.stage < Stage.KNOWN:
            connection.move_to(Stage.HANDSHAKE)
            connection.has_unread = partial(has_unread, accepted)
        handshake = start_now(self._handshake(connection, accepted))
        self._handshakes.add(handshake)
        connection.close = handshake.cancel

        def on_done(task: asyncio.Task[None]) -> None:
            self._handshakes.discard(task)
            if task.cancelled():
                accepted.close()
                connection.ended()

        handshake.add_done_callback(on_done)

    async def _handshake(self, connection: Connection, accepted: socket.socket) -> None:
        """Create the transport and the protocol, after the TLS handshake if there is one."""
        loop = asyncio.get_running_loop()
        protocol = partial(self._protocol, connection)
        try:
            if self.certificates is None:
                await loop.connect_accepted_socket(protocol, accepted)
            else:
                left = self._limits.request_seconds - (loop.time() - connection.since)
                transport, _ = await loop.connect_accepted_socket(
                    protocol,
                    accepted,
                    ssl=self.certificates.context,
                    ssl_handshake_timeout=max(left, MIN_HANDSHAKE_S),
                    ssl_shutdown_timeout=TLS_SHUTDOWN_S,
                )
                if connection.stage is Stage.HANDSHAKE:
                    # Now it is the turn of the client, so this is the newest of them again.
                    connection.move_to(Stage.HANDSHAKE)
                if self.certificates.has_revocations:
                    self._certify(connection, transport.get_extra_info("ssl_object"))
        except OSError as error:
            connection.ended()
            if reason := _handshake_failure(error):
                self._refusals.note(HANDSHAKE_FAILED, CLOSED, connection.peer, detail=reason)

    def _certify(self, connection: Connection, tls: ssl.SSLObject) -> None:
        """Store the certificate of a client; a list may have been loaded during the handshake."""
        assert self.certificates is not None
        if (certificate := tls.getpeercert(binary_form=True)) is not None:
            connection.certified_by(certificate)
            if self.certificates.is_revoked(certificate):
                connection.revoke()


def connection_limit(wanted: int | None) -> int:
    """Return how many connections this process may accept, at most ``wanted``.

    Raises its limit of open files as far as that needs: with few connections, eviction would cost
    more than what it evicts.
    """
    most = min(wanted or MAX_CONNECTIONS, MAX_CONNECTIONS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    needed = most + OTHER_DESCRIPTORS
    if soft != unlimited and soft < needed:
        raised = needed if hard == unlimited else min(needed, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return most if soft == unlimited else min(most, max(soft - OTHER_DESCRIPTORS, soft // 2))


def _handshake_failure(error: OSError) -> str:
    """Return why a handshake failed; empty if the client just closed the connection."""
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _ABOUT_LISTS:
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "unknown").replace("_", " ").lower()
    if isinstance(error, ConnectionAbortedError):
        return _TOO_LONG
    return ""


def _unmapped(address: str) -> str:
    """Return an IPv4-mapped IPv6 address as an IPv4 address, and any other one unchanged."""
    return address.removeprefix("::ffff:") if "." in address else address
