"""The listener: the sockets on which nodes call."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace

from aiohttp import web

from pexpolicy.access.certificates import Certificates, certificates_of
from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.endpoint import Endpoint

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
