"""The listener of nodes: accepts connections on its sockets, and limits them.

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
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace

from aiohttp import web

from pexpolicy.access.access_control import AccessControl
from pexpolicy.access.certificates import Certificates, certificates_of
from pexpolicy.access.connections import (
    Connection,
    ConnectionLimitError,
    ConnectionLimits,
    Connections,
)
from pexpolicy.access.refusals import (
    CLOSED,
    CROWDED,
    EVICTED,
    HANDSHAKE_FAILED,
    NOT_ALLOWED,
    RefusalLog,
)
from pexpolicy.errors import Log
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.protocol import PolicyProtocol, ProtocolContext, ReplyBatcher
from pexpolicy.tasks import hide, start_now

ACCEPT_BATCH = 16
"""Connections that are accepted in one turn of the event loop."""
TLS_ACCEPT_BATCH = 4
"""The same with TLS, whose handshake takes as much CPU time as several calls."""
MAX_WAITING_TLS = 1024
"""Connections without an admitted call with TLS, which takes 150 KB for each. With fewer of them,
clients that reconnect at once fill the queue of the kernel, and nodes wait until it is empty.
"""
OTHER_DESCRIPTORS = 128
"""Descriptors that are left for files, plugins and other sockets."""
DEFER_S = 5
"""Time in which the kernel keeps a client that has sent nothing to itself."""
EXHAUSTED_PAUSE_S = 0.5
"""Seconds without accepting after the process or the machine ran out of descriptors or memory."""
SWEEPS = 20
"""Times in ``request_seconds`` that expired connections are looked for."""
START_DRAIN_S = 1.0
"""Seconds to finish pending TLS handshakes on shutdown."""
TLS_SHUTDOWN_S = 1.0
"""Seconds for a client to complete the closing of a TLS connection."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_ABOUT_LISTS = {3, 11, 12, 23}
"""Verification errors of OpenSSL about revocation lists: their messages are the reason."""
_TOO_LONG = "the handshake took too long"


def connection_limit(wanted: int) -> int:
    """Return how many connections this process may accept, at most ``wanted``.

    Raises its limit of open files as far as that needs: with few connections, eviction would cost
    more than what it evicts.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    needed = wanted + OTHER_DESCRIPTORS
    if soft != unlimited and soft < needed:
        raised = needed if hard == unlimited else min(needed, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    return wanted if soft == unlimited else min(wanted, max(soft - OTHER_DESCRIPTORS, soft // 2))


class Endpoint:
    """Accepts connections for a server of aiohttp, and creates a protocol for each allowed one.

    ``access`` returns the active access control. Replies are sent together, after ``flush_audit``.
    Without ``certificates`` it accepts plain HTTP. On sockets that are ``shared`` with other
    processes it accepts one connection per turn, so that the connections are distributed.
    """

    def __init__(  # noqa: PLR0913 - they have names
        self,
        server: web.Server,
        *,
        access: Callable[[], AccessControl],
        refusals: RefusalLog,
        limits: ConnectionLimits,
        log: Log,
        flush_audit: Callable[[], None],
        certificates: Certificates | None = None,
        shared: bool = False,
        kind: type[PolicyProtocol] = PolicyProtocol,
    ) -> None:
        loop = asyncio.get_running_loop()
        total = connection_limit(limits.total)
        waiting = min(limits.waiting, MAX_WAITING_TLS if certificates is not None else total)
        limits = replace(limits, total=total, waiting=waiting)
        self.connections = Connections(limits, self._on_eviction)
        self.certificates = certificates
        self._server = server
        self._access = access
        self._refusals = refusals
        self._kind = kind
        batcher = ReplyBatcher(loop, log, flush_audit)
        self._context = ProtocolContext(server, loop, limits, refusals, log, batcher)
        self._batch = ACCEPT_BATCH if certificates is None else TLS_ACCEPT_BATCH
        if shared:
            self._batch = 1
        self._starting: set[asyncio.Task[None]] = set()
        self._has_evicted = False
        self._timers: dict[object, asyncio.TimerHandle] = {}
        """The timer of the next sweep, and those of sockets on which accepting is paused."""

    @asynccontextmanager
    async def open(self, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
        """Accept connections until exit; then close the sockets, but not the open connections."""
        loop = self._context.loop
        watch = None
        if self.certificates is not None:
            watch = loop.create_task(self.certificates.watch(self._on_renewal))
            hide(watch)
        for listener in sockets:
            listener.settimeout(0)
            # Accepted sockets inherit these, the first of which limits unread data in the kernel.
            size = self._context.limits.header_bytes
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_DEFER_ACCEPT"):
                # A silent client costs this process nothing, not even a descriptor.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_S)
            loop.add_reader(listener, self._accept, listener)
        self._sweep()
        try:
            yield
        finally:
            for timer in self._timers.values():
                timer.cancel()
            for listener in sockets:
                loop.remove_reader(listener)
                listener.close()
            if watch is not None:
                watch.cancel()
            if self._starting:
                await asyncio.wait(self._starting, timeout=START_DRAIN_S)
            for task in self._starting:
                task.cancel()
            await asyncio.gather(*self._starting, return_exceptions=True)

    def _sweep(self) -> None:
        """Close the connections whose time is over."""
        self.connections.expire()
        if self._has_evicted:
            self._has_evicted = False
            _trim_heap()
        interval = self._context.limits.request_seconds / SWEEPS
        self._timers[self] = self._context.loop.call_later(interval, self._sweep)

    def _on_renewal(self, *, of_authorities: bool) -> None:
        """Apply revocation lists and authorities of clients to the open connections."""
        assert self.certificates is not None
        for connection, certificate in self.connections.certificates.items():
            if self.certificates.is_revoked(certificate):
                connection.revoke()
        if of_authorities:
            for protocol in self._server.connections:
                assert isinstance(protocol, PolicyProtocol)
                if protocol.connection.not_after is not None:
                    protocol.end()

    def _on_eviction(self, connection: Connection) -> None:
        self._has_evicted = True
        self._refusals.note(EVICTED, CLOSED, connection.peer)

    def _accept(self, listener: socket.socket) -> None:
        for number in range(self._batch):
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # Later in a turn it is no sign that another client waits.
                    if not number:
                        self._make_room(listener)
                    return
                continue  # the client has closed the connection
            self._receive(accepted, _unmapped(address[0]))

    def _make_room(self, listener: socket.socket) -> None:
        """Close waiting connections where fewer descriptors than connections are left.

        Without any, stop accepting for a moment: the ready socket would keep the event loop busy.
        """
        try:
            for _ in range(ACCEPT_BATCH):
                self.connections.evict_oldest()
        except ConnectionLimitError:
            loop = self._context.loop
            loop.remove_reader(listener)
            self._timers[listener] = loop.call_later(
                EXHAUSTED_PAUSE_S, loop.add_reader, listener, self._accept, listener
            )

    def _receive(self, accepted: socket.socket, peer: str) -> None:
        """Start a connection, or close it without reading from it."""
        access = self._access()
        if not access.may_connect(peer):
            accepted.close()
            self._refusals.note(NOT_ALLOWED, CLOSED, peer)
            return
        connection = Connection(peer, accepted.close, is_known=access.is_known(peer))
        try:
            self.connections.add(connection, shared=access.is_proxy(peer))
        except ConnectionLimitError:
            accepted.close()
            self._refusals.note(CROWDED, CLOSED, peer)
            return
        accepted.settimeout(0)
        task = start_now(self._start(connection, accepted))
        self._starting.add(task)
        connection.close = task.cancel

        def on_done(task: asyncio.Task[None]) -> None:
            self._starting.discard(task)
            if task.cancelled():
                accepted.close()
                connection.ended()

        task.add_done_callback(on_done)

    async def _start(self, connection: Connection, accepted: socket.socket) -> None:
        """Create the transport and the protocol, after the TLS handshake if there is one."""
        loop, certificates = self._context.loop, self.certificates

        def protocol() -> PolicyProtocol:
            return self._kind(self._context, connection)

        def expire(_: bool) -> None:  # noqa: FBT001 - as `Connection.expire`
            self._refusals.note(HANDSHAKE_FAILED, CLOSED, connection.peer, detail=_TOO_LONG)
            connection.close()

        try:
            if certificates is None:
                await loop.connect_accepted_socket(protocol, accepted)
                return
            connection.expire = expire
            transport, _ = await loop.connect_accepted_socket(
                protocol,
                accepted,
                ssl=certificates.context,
                # The sweep ends it before.
                ssl_handshake_timeout=2 * self._context.limits.request_seconds,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S,
            )
            if certificates.has_revocations:
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


def _trim_heap() -> None:
    """Return freed memory to the system if the C library can: large heads leave many holes."""
    # Imported on demand, to keep it out of the start.
    import ctypes  # noqa: PLC0415

    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def _handshake_failure(error: OSError) -> str:
    """Return why a handshake failed; empty if the client just closed the connection."""
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _ABOUT_LISTS:
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "unknown").replace("_", " ").lower()
    return ""


def _unmapped(address: str) -> str:
    """Return an IPv4-mapped IPv6 address as an IPv4 address, and any other one unchanged."""
    return address.removeprefix("::ffff:") if "." in address else address


BACKLOG = 4096
"""Connections that the kernel queues until they are accepted; ``net.core.somaxconn`` limits them.
A client whose connection does not fit tries again after 1, 3 and 7 s.
"""
CALLS_DRAIN_TIMEOUT_S = 5.0
"""Seconds to answer the calls in flight after the listener was closed."""

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

Address = tuple[str, int] | list[socket.socket]
"""A host and a port, or bound sockets."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a bound socket for each address of a host that this machine has; raise ``OSError``.

    With port 0 all of them have the same free port. Clients are refused until they listen.
    """
    addresses = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        absent: OSError | None = None
        for family, _, _, _, address in dict.fromkeys(addresses):
            number = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(stack.enter_context(_bound(family, (address[0], number))))
            except OSError as error:
                # In containers without IPv6, localhost is ::1 too.
                if error.errno not in _ABSENT:
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
        stack.pop_all()
    return sockets


def _bound(family: int, address: tuple[str | int, int]) -> socket.socket:
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket, app: PolicyApp) -> str:
    """Return the base URL of the policy calls."""
    scheme = "http" if app.generation.policy.settings.tls is None else "https"
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}:{port}{app.base_path}"


class Listener:
    """Accepts the connections of nodes, on sockets that ``processes`` share."""

    def __init__(
        self,
        app: PolicyApp,
        address: Address,
        *,
        processes: int = 1,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._app = app
        self._shared = processes > 1
        self._address = address
        self._limits = limits or ConnectionLimits()
        self._endpoint: Endpoint | None = None

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._endpoint.connections) if self._endpoint is not None else 0

    @property
    def certificate(self) -> Certificates | None:
        """The certificate of the listener, if it uses TLS."""
        return self._endpoint.certificates if self._endpoint is not None else None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[list[socket.socket]]:
        """Accept connections and yield the sockets; on exit, answer the calls in flight.

        Raise ``OSError`` if the address cannot be bound, ``ConfigError`` for a bad certificate.
        """
        app, address = self._app, self._address
        audit, settings = app.generation.audit, app.generation.policy.settings
        most = settings.limits.connections or self._limits.total
        server = web.Server(app)
        self._endpoint = Endpoint(
            server,
            access=lambda: app.generation.access,
            refusals=app.refusals,
            limits=replace(self._limits, total=min(most, self._limits.total)),
            log=app.log,
            flush_audit=audit.flush,
            certificates=certificates_of(settings, app.log),
            shared=self._shared,
        )
        sockets = bind(*address) if isinstance(address, tuple) else address
        for listener in sockets:
            listener.listen(BACKLOG)
        try:
            with audit.batching(asyncio.get_running_loop()):
                async with self._endpoint.open(sockets):
                    yield sockets
        finally:
            app.generation.access.close()
            server.pre_shutdown()
            await server.shutdown(CALLS_DRAIN_TIMEOUT_S)
            app.refusals.end()
