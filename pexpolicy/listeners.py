"""The sockets that calls come in by."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from aiohttp import web

from pexpolicy.access.certificates import certificates_of
from pexpolicy.access.connections import Connection
from pexpolicy.access.door import Door
from pexpolicy.protocol import PolicyProtocol
from pexpolicy.server import Service

BACKLOG = 1024
"""Connections that wait to be accepted."""
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


def url_of(listener: socket.socket, base_path: str, *, secure: bool = False) -> str:
    """Where calls are answered."""
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"http{'s' if secure else ''}://{name}:{port}{base_path}"


@asynccontextmanager
async def listening(service: Service, address: Address) -> AsyncIterator[list[socket.socket]]:
    """Answer on an address; gives the sockets. On leaving no more connections are accepted, and
    the calls under way are answered. Raises ``OSError`` for an address that cannot be had, and
    ``ConfigError`` for a certificate that cannot be used.
    """
    settings = service.regime.policy.settings
    loop = asyncio.get_running_loop()
    server = web.Server(service)

    def protocol(connection: Connection) -> PolicyProtocol:
        return PolicyProtocol(
            server,
            loop=loop,
            connection=connection,
            refusals=service.refusals,
            limits=settings.limits,
        )

    certificates = certificates_of(settings, service.log)
    service.door = door = Door(
        protocol, lambda: service.regime.gate, service.refusals, settings.limits, certificates
    )
    sockets = bound(*address) if isinstance(address, tuple) else address
    try:
        async with door.open(sockets):
            yield sockets
    finally:
        service.regime.gate.close()
        server.pre_shutdown()
        await server.shutdown(LAST_REPLIES)
