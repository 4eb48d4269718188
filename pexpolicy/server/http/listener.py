"""The sockets that calls come in by."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from aiohttp import web

from pexpolicy.access.certificates import Certificates, certificates_of
from pexpolicy.access.connections import Connection
from pexpolicy.access.memory import Watermark
from pexpolicy.server.http.acceptor import Acceptor
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.protocol import PolicyProtocol
from pexpolicy.server.http.reply_batcher import ReplyBatcher

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""
LAST_REPLIES = 5.0
"""Seconds that calls have to be answered in once no more are accepted."""

Address = tuple[str, int] | list[socket.socket]
"""A host and a port to listen on, or sockets that somebody has bound already."""


def bound(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen, for several processes to share; raises ``OSError``.

    Where the port is 0, all of them listen on the same free one.
    """
    addresses = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    with ExitStack() as unwound:
        sockets: list[socket.socket] = []
        for family, _, _, _, address in dict.fromkeys(addresses):
            number = sockets[0].getsockname()[1] if sockets else port
            listener = socket.create_server(
                (str(address[0]), number), family=family, backlog=BACKLOG
            )
            sockets.append(unwound.enter_context(listener))
        unwound.pop_all()
    return sockets


def url_of(listener: socket.socket, service: PolicyApp) -> str:
    """Where calls are answered."""
    scheme = "http" if service.generation.policy.settings.tls is None else "https"
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}:{port}{service.base_path}"


class Listener:
    """Where calls come in. With an address it binds the sockets itself; sockets that are given are
    shared with other processes.
    """

    def __init__(self, service: PolicyApp, address: Address) -> None:
        self._service = service
        self._address = address
        self._door: Acceptor | None = None
        self.memory = Watermark.of(service.generation.policy.settings, service.log)

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._door.connections.count if self._door is not None else 0

    @property
    def certificate(self) -> Certificates | None:
        """The certificate that is shown, where there is one."""
        return self._door.certificates if self._door is not None else None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[list[socket.socket]]:
        """Answer; gives the sockets. On leaving no more connections are accepted, and the calls
        under way are answered.

        Raises ``OSError`` for an address that cannot be had, ``ConfigError`` for a certificate.
        """
        loop = asyncio.get_running_loop()
        service, address = self._service, self._address
        audit = service.generation.audit
        server, outbox = web.Server(service), ReplyBatcher(loop, service.log, audit.flush)
        settings = service.generation.policy.settings

        def protocol(connection: Connection) -> PolicyProtocol:
            return PolicyProtocol(
                server,
                loop=loop,
                connection=connection,
                refusals=service.refusals,
                limits=settings.limits,
                log=service.log,
                outbox=outbox,
            )

        self._door = Acceptor(
            protocol,
            lambda: service.generation.gate,
            service.refusals,
            settings.limits,
            certificates_of(settings, service.log),
            self.memory,
            shares=not isinstance(address, tuple),
        )
        sockets = bound(*address) if isinstance(address, tuple) else address
        try:
            with audit.batching(loop):
                async with self._door.open(sockets):
                    yield sockets
        finally:
            service.generation.gate.close()
            server.pre_shutdown()
            await server.shutdown(LAST_REPLIES)
            service.refusals.end()
