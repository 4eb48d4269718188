"""The listener: accepts connections on its socket, and limits them.

The event loop does not accept them: uvloop accepts one in each turn, and asyncio as many as wait.
An address that is not allowed must not cost a TLS handshake, a connection counts before its
handshake is done, and gets the newest certificate.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from aiohttp import web

from pexpolicy.access.access_control import AccessControl
from pexpolicy.access.certificates import Certificates, configured
from pexpolicy.access.connections import (
    Connection,
    ConnectionLimitError,
    ConnectionLimits,
    Connections,
)
from pexpolicy.access.refusals import CLOSED, CROWDED, EVICTED, HANDSHAKE_FAILED, NOT_ALLOWED
from pexpolicy.config.settings import Settings
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.protocol import PolicyProtocol, ReplyBatcher
from pexpolicy.tasks import end_tasks, start_background

BACKLOG = 4096
"""Connections that the kernel queues until they are accepted; ``net.core.somaxconn`` limits them.
A client whose connection does not fit tries again after 1, 3 and 7 s.
"""
CALLS_DRAIN_TIMEOUT_S = 5.0
"""Seconds to answer the calls in flight after the listener was closed."""
ACCEPT_BATCH = 16
"""Connections that are accepted in one turn of the event loop."""
TLS_ACCEPT_BATCH = 4
"""The same with TLS, whose handshake takes as much CPU time as several calls."""
MAX_WAITING_TLS = 1024
"""Connections without an admitted call with TLS, which takes 150 KB for each, and 430 KB with a
request of 64 KB that is incomplete. With fewer of them, clients that reconnect at once fill the
queue of the kernel, and nodes wait until it is empty."""
OTHER_DESCRIPTORS = 128
"""Descriptors that are left for files, plugins and other sockets."""
DEFER_S = 5
"""Time in which the kernel keeps a client that has sent nothing to itself."""
SWEEPS = 20
"""Times in ``request_seconds`` that expired connections are looked for. Accepting is paused until
then after the process or the machine ran out of descriptors or memory.
"""
START_DRAIN_S = 1.0
"""Seconds to finish pending TLS handshakes on shutdown."""
TLS_SHUTDOWN_S = 1.0
"""Seconds for a client to complete the closing of a TLS connection."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def connection_limit(wanted: int) -> int:
    """Return how many connections this process may accept, at most ``wanted``.

    Raises its limit of open files as far as that needs: with few connections, eviction would cost
    more than what it evicts.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_DESCRIPTORS
    soft, hard = (needed if one == resource.RLIM_INFINITY else one for one in limits)
    if soft < needed:
        raised = min(needed, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, limits[1]))
            soft = raised
    return min(wanted, max(soft - OTHER_DESCRIPTORS, soft // 2))


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket; raise ``OSError``. Clients are refused until it listens."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket, scheme: str = "http") -> str:
    """Return the URL of a socket."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class Listener:
    """Accepts connections on a bound socket, and creates a protocol for each allowed one.

    A server of aiohttp answers their requests, that of ``app`` by default. ``access`` is the access
    control of connections, that of the active generation by default. On a socket that is ``shared``
    with other processes it accepts one connection per turn, so that the connections are
    distributed. ``settings`` have its certificate. Raises ``ConfigError`` for a bad one.
    """

    def __init__(  # noqa: PLR0913 - they have names
        self,
        app: PolicyApp,
        listener: socket.socket,
        *,
        server: web.Server | None = None,
        access: AccessControl | None = None,
        limits: ConnectionLimits | None = None,
        shared: bool = False,
        settings: Settings | None = None,
        kind: type[PolicyProtocol] = PolicyProtocol,
    ) -> None:
        limits = limits or ConnectionLimits()
        settings = settings or app.generation.policy.settings
        tls, made = settings.tls, partial(Certificates, log=app.log)
        self.certificates = None if tls is None else configured(settings.path, tls, made)
        total = connection_limit(min(settings.limits.connections or limits.total, limits.total))
        waiting = min(limits.waiting, MAX_WAITING_TLS if self.certificates is not None else total)
        streamed = app.events_path.encode() if server is None else None
        limits = limits._replace(total=total, waiting=waiting, streamed=streamed)
        self.connections = Connections(
            limits, lambda evicted: self._refusals.note(EVICTED, CLOSED, evicted.peer)
        )
        self._listener = listener
        self._server = server or web.Server(app)
        self._app = app
        self._own_access = access
        self._refusals = app.refusals
        self._kind = kind
        self._sink = app.generation.audit.sink
        self._batcher = ReplyBatcher(self._server, limits, app.refusals, app.log, self._sink.flush)
        self._batch = ACCEPT_BATCH if self.certificates is None else TLS_ACCEPT_BATCH
        if shared:
            self._batch = 1
        self._starting: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, drain_s: float = CALLS_DRAIN_TIMEOUT_S) -> AsyncIterator[None]:
        """Accept connections until exit; then close the socket, and answer the calls in flight."""
        loop, listener = self._batcher.loop, self._listener
        watching: set[asyncio.Task[None]] = set()
        if self.certificates is not None:
            _ = start_background(self.certificates.watch(self._on_renewal), watching)
        listener.settimeout(0)
        # Accepted sockets inherit these, the first of which limits unread data in the kernel.
        size = self._batcher.limits.header_bytes
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            # A silent client costs this process nothing, not even a descriptor.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_S)
        try:
            listener.listen(BACKLOG)
        except OSError as error:  # another process has bound it, too, and was the first to listen
            error.filename = url_of(listener).removeprefix("http://")
            raise
        self._sweep()
        self._sink.set_batching(loop)
        try:
            yield
        finally:
            self._sink.set_batching(None)
            loop.remove_reader(listener)
            listener.close()
            if self._starting:
                await asyncio.wait(self._starting, timeout=START_DRAIN_S)
            await end_tasks((*self._starting, *watching), START_DRAIN_S)
            self._access().close()
            self._server.pre_shutdown()
            await self._server.shutdown(drain_s)
            self._refusals.end()

    def _access(self) -> AccessControl:
        return self._own_access or self._app.generation.access

    def _sweep(self) -> None:
        """Close the connections whose time is over, and accept further ones after a pause."""
        loop, listener = self._batcher.loop, self._listener
        self.connections.expire()
        if listener.fileno() >= 0:
            loop.add_reader(listener, self._accept)
            loop.call_later(self._batcher.limits.request_seconds / SWEEPS, self._sweep)

    def _on_renewal(self, *, of_authorities: bool) -> None:
        """Apply revocation lists and authorities of clients to the open connections."""
        for protocol in self._server.connections:
            assert isinstance(protocol, PolicyProtocol)
            self._check_revocation(protocol)
            if of_authorities and protocol.connection.not_after is not None:
                protocol.end()

    def _check_revocation(self, protocol: PolicyProtocol) -> None:
        """Refuse further calls on a connection whose client certificate was revoked."""
        transport, certificates = protocol.transport, self.certificates
        if transport is None or certificates is None:
            return
        shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if certificates.is_revoked(shown):
            protocol.connection.is_revoked, protocol.connection.not_after = True, 0.0

    def _accept(self) -> None:
        for number in range(self._batch):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # Later in a turn it is no sign that another client waits.
                    if not number:
                        self._make_room()
                    return
                continue  # the client has closed the connection
            peer = address[0]
            # An IPv4-mapped IPv6 address is an IPv4 address.
            self._receive(accepted, peer.removeprefix("::ffff:") if "." in peer else peer)

    def _make_room(self) -> None:
        """Close waiting connections where fewer descriptors than connections are left.

        Without any, pause accepting: the ready socket would keep the event loop busy.
        """
        try:
            for _ in range(ACCEPT_BATCH):
                self.connections.evict_oldest()
        except ConnectionLimitError:
            self._batcher.loop.remove_reader(self._listener)

    def _receive(self, accepted: socket.socket, peer: str) -> None:
        """Start a connection, or close it without reading from it."""
        access = self._access()
        connection = Connection(peer, accepted.close)
        reason = "" if access.may_connect(peer) else NOT_ALLOWED
        try:
            if not reason:
                self.connections.add(connection, shared=access.is_proxy(peer))
        except ConnectionLimitError:
            reason = CROWDED
        if reason:
            accepted.close()
            self._refusals.note(reason, CLOSED, peer)
            return
        accepted.settimeout(0)
        task = start_background(self._start(connection, accepted), self._starting)
        connection.close = task.cancel

        def on_done(task: asyncio.Task[None]) -> None:
            if task.cancelled():
                accepted.close()
                connection.ended()

        task.add_done_callback(on_done)

    async def _start(self, connection: Connection, accepted: socket.socket) -> None:
        """Create the transport and the protocol, after the TLS handshake if there is one."""
        loop, certificates = self._batcher.loop, self.certificates
        protocol = self._kind(self._batcher, connection)
        try:
            if certificates is None:
                await loop.connect_accepted_socket(lambda: protocol, accepted)
                return
            context = certificates.loaded.context
            await loop.connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=context,
                ssl_handshake_timeout=self._batcher.limits.request_seconds,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S,
            )
            # A list, or other authorities, may have been loaded during the handshake.
            self._check_revocation(protocol)
            if certificates.loaded.context is not context and connection.not_after is not None:
                protocol.end()
        except OSError as error:
            connection.ended()
            detail = ""
            if isinstance(error, ssl.SSLCertVerificationError):
                detail = error.verify_message
            elif isinstance(error, ssl.SSLError):
                detail = (error.reason or "unknown").replace("_", " ").lower()
            elif isinstance(error, ConnectionAbortedError):
                detail = "the handshake took too long"
            if detail:
                self._refusals.note(HANDSHAKE_FAILED, CLOSED, connection.peer, detail=detail)
