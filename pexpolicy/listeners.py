"""The sockets that calls come in by."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from pexpolicy.protocol import PolicyProtocol
from pexpolicy.server import Service

BACKLOG = 1024
"""Connections that wait to be accepted."""
LAST_REPLIES = 5.0
"""Seconds that calls have to be answered in once no more are accepted."""

Address = tuple[str, int] | list[socket.socket]
"""A host and a port to listen on, or sockets that somebody has bound already."""


def bound(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen, for several processes to share; raises ``OSError``."""
    addresses = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    return [
        socket.create_server(address[:2], family=family, backlog=BACKLOG)
        for family, _, _, _, address in dict.fromkeys(addresses)
    ]


def url_of(listener: socket.socket, base_path: str) -> str:
    """Where calls are answered."""
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}{base_path}"


@asynccontextmanager
async def listening(service: Service, address: Address) -> AsyncIterator[list[socket.socket]]:
    """Answer on an address; gives the sockets. On leaving no more connections are accepted, and
    the calls under way are answered. Raises ``OSError`` for an address that cannot be had.
    """
    loop = asyncio.get_running_loop()
    server = web.Server(service)

    def protocol() -> PolicyProtocol:
        return PolicyProtocol(server, loop=loop, malformed=service.malformed)

    if isinstance(address, tuple):
        host, port = address
        listeners = [await loop.create_server(protocol, host, port, backlog=BACKLOG)]
    else:
        listeners = [
            await loop.create_server(protocol, sock=bound, backlog=BACKLOG) for bound in address
        ]
    try:
        yield [bound for listener in listeners for bound in listener.sockets]
    finally:
        for listener in listeners:
            listener.close()
        server.pre_shutdown()
        await server.shutdown(LAST_REPLIES)
