"""Connections to a target, shared by calls and checked for unexpected data."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from pexpolicy.conformance.replies import MAX_FIELD

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

IDLE = 30.0
"""Seconds that an unused connection is kept."""
WINDOW = 16 * 1024
"""Bytes that wait for us on a connection. What has arrived is parsed in one go while all calls
wait, so a target that floods must not get a quarter of a megabyte in, as it would by default: six
connections full of "100 Continue" took 50 to 90 ms of one turn of the loop, and take 7.
"""


class CleanConnector(aiohttp.TCPConnector):
    """Connector that closes idle connections with unexpected data.

    A server that replies twice, or more than it announced, leaves bytes on a kept connection.
    aiohttp would take them for the reply to the next request, and a call would get the decision of
    another.
    """

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the signature is aiohttp's
    ) -> Connection:
        """Return a connection as in aiohttp, after closing unclean ones."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or not protocol.should_close:
                return connection
            connection.close()


@asynccontextmanager
async def opened(limit: int, secure: ssl.SSLContext | None) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session for one target with at most ``limit`` connections.

    It keeps no cookies, knows no proxies, asks for no compression and unpacks none.
    """
    connector = CleanConnector(
        limit=limit,
        ssl=True if secure is None else secure,
        keepalive_timeout=IDLE,
        socket_factory=_narrow,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept-Encoding", "User-Agent"),
        max_field_size=MAX_FIELD,
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:
        yield session


def _narrow(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
    return made
