"""Connections to a target, shared by calls and checked for unexpected data."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from pexpolicy import Problem
from pexpolicy.config.files import why_unusable
from pexpolicy.conformance.replies import MAX_FIELD
from pexpolicy_upstream.settings import TargetSettings

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


class TLSError(Exception):
    """Certificates that cannot be used; ``problem`` names the key."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.problem = Problem((key,), text)


def tls(settings: TargetSettings) -> ssl.SSLContext | None:
    """Return the TLS context of a target; ``None`` for plain HTTP. Raises ``TLSError``."""
    if not settings.url.startswith("https://"):
        return None
    context = ssl.create_default_context()
    if settings.ca_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise TLSError("ca_file", _unreadable(settings.ca_file, error)) from None
    if settings.client_cert is not None:
        try:
            context.load_cert_chain(
                settings.client_cert, settings.client_key, password=_no_password
            )
        except (OSError, ssl.SSLError, ValueError) as error:
            raise TLSError("client_cert", _unreadable(settings.client_cert, error)) from None
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    """Raise an error for an encrypted key instead of asking on the terminal."""
    msg = "the key is encrypted; store it without a password, readable for the server only"
    raise ValueError(msg)


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"holds no certificate or key that can be used ({error.reason or 'not PEM'})"
    if isinstance(error, OSError):
        return f"{path} cannot be read: {why_unusable(path, error)}"
    return str(error)
