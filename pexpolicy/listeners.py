"""The sockets that calls come in by."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from pexpolicy.access.binding import bind
from pexpolicy.access.certificates import certificates_of
from pexpolicy.access.connections import Connection
from pexpolicy.access.door import Door
from pexpolicy.protocol import PolicyProtocol
from pexpolicy.server import Service

LAST_REPLIES = 5.0
"""Seconds that calls have to be answered in once no more are accepted."""

Address = tuple[str, int] | list[socket.socket]
"""A host and a port to listen on, or sockets that somebody has bound already."""


def url_of(listener: socket.socket, service: Service) -> str:
    """Where calls are answered."""
    scheme = "http" if service.regime.policy.settings.tls is None else "https"
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}:{port}{service.base_path}"


@asynccontextmanager
async def listening(service: Service, address: Address) -> AsyncIterator[list[socket.socket]]:
    """Answer on an address; gives the sockets. On leaving no more connections are accepted, and
    the calls under way are answered. Raises ``OSError`` for an address that cannot be had.
    """
    loop = asyncio.get_running_loop()
    server = web.Server(service)
    settings = service.regime.policy.settings

    def protocol(connection: Connection) -> PolicyProtocol:
        return PolicyProtocol(
            server,
            loop=loop,
            connection=connection,
            refusals=service.refusals,
            limits=settings.limits,
        )

    door = Door(
        protocol,
        lambda: service.regime.gate,
        service.refusals,
        settings.limits,
        certificates_of(settings, service.log),
        shares=not isinstance(address, tuple),
    )
    sockets = bind(*address) if isinstance(address, tuple) else address
    try:
        async with door.open(sockets):
            yield sockets
    finally:
        server.pre_shutdown()
        await server.shutdown(LAST_REPLIES)
        service.regime.gate.close()
