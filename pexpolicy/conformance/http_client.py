"""The HTTP client: raw targets, one connection, no redirects, a time limit of five seconds."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import Any, NamedTuple

import aiohttp
from yarl import URL

from pexpolicy.errors import describe_network_error

LIMIT = 5.0
"""Seconds after which Infinity gives up (observed in v16, transcribed)."""
MAX_BODY = 4 * 1024 * 1024
"""Maximum size of a body in bytes; no reply needs more."""
MAX_FIELD = 64 * 1024
"""Maximum size of a field of the head in bytes; a Content-Security-Policy may have more than 8,190,
which is the default of the library.
"""
MAX_RETRY_AFTER_S = 300.0
"""Longest ``Retry-After`` that is respected."""
BARE = ("Accept-Encoding", "User-Agent")
"""Headers of the library that a request to a policy server does not have."""


class Reply(NamedTuple):
    """A reply, or the reason why there is none."""

    seconds: float
    status: int = 0
    headers: Mapping[str, str] = {}
    body: bytes = b""
    failure: str = ""
    """Why there is no whole reply, or an empty text."""
    late: bool = False
    """True if the reply was not complete in time."""
    torn: bool = False
    """True if the body has another length than announced, or is too long."""
    refused: bool = False
    """True if there was no connection."""

    @property
    def line(self) -> str:
        """Return the status with its usual name: a server may write what it got into its own."""
        return f"HTTP {self.status} {responses.get(self.status, '')}".rstrip()

    @property
    def media_type(self) -> str:
        """Return the content type without its parameters, in lower case."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def retry_after(self) -> float:
        """Return the seconds of ``Retry-After``, which has them or a date; 0 for none."""
        text = self.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdigit():
            return min(float(text), MAX_RETRY_AFTER_S)
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
        return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)

    @property
    def codings(self) -> frozenset[str]:
        """Return the content codings in lower case; none where the header is missing."""
        if (written := self.headers.get("Content-Encoding")) is None:
            return frozenset()
        return frozenset(coding.strip().lower() for coding in written.split(","))


class Wire(NamedTuple):
    """Requests to one policy server over the keep-alive connections of a session."""

    session: aiohttp.ClientSession
    base: str
    """The URL before ``/policy/v1``."""
    authorization: str | None = None
    limit: float = LIMIT
    """The time for a whole reply in seconds."""
    max_body: int = MAX_BODY

    async def get(self, target: str, limit: float | None = None) -> Reply:
        """Return the reply for a path and query, which are sent unchanged.

        ``limit`` replaces the time limit of the wire.
        """
        headers = {} if self.authorization is None else {"Authorization": self.authorization}
        url = URL(self.base.rstrip("/") + target, encoded=True)
        most = limit or self.limit
        return await fetch(self.session, "GET", url, most, self.max_body, headers=headers)


async def fetch(
    session: aiohttp.ClientSession,
    method: str,
    url: URL,
    limit: float,
    max_body: int,
    **options: Any,
) -> Reply:
    """Return the whole reply to a request, without redirects, or why there is none.

    ``limit`` is in seconds, ``max_body`` in bytes; ``options`` are those of the session.
    """
    started = time.perf_counter()
    try:
        async with (
            asyncio.timeout(limit),
            session.request(method, url, allow_redirects=False, **options) as response,
        ):
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > max_body:
                    text = f"the body is longer than {max_body} bytes"
                    return Reply(time.perf_counter() - started, failure=text, torn=True)
            headers = response.headers.copy()
            return Reply(time.perf_counter() - started, response.status, headers, bytes(body))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return _failed(error, time.perf_counter() - started)


def _failed(error: Exception, seconds: float) -> Reply:
    """Return why there is no reply, without the error text, which may contain a PIN."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Reply(seconds, failure="the connection is not accepted", refused=True)
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = describe_network_error(error.__cause__ or error)
        reason = f"no connection to {error.host}:{error.port}: {cause}"
        return Reply(seconds, failure=reason[:200], refused=True)
    if isinstance(error, TimeoutError):
        return Reply(seconds, failure="no whole reply in time", late=True)
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | ConnectionError):
        return Reply(seconds, failure="the server closed the connection")
    text = "the reply is not HTTP, or follows a body that was longer than announced"
    if isinstance(error, aiohttp.ClientPayloadError):
        text = "the body is shorter than announced"
    return Reply(seconds, failure=text, torn=True)


def client_session(
    connector: aiohttp.TCPConnector, timeout: aiohttp.ClientTimeout, **options: Any
) -> aiohttp.ClientSession:
    """Return a client that keeps no cookies, knows no proxies, and asks for no compression."""
    usual = {"auto_decompress": False, "skip_auto_headers": BARE[:1], "max_field_size": MAX_FIELD}
    jar = aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=jar, timeout=timeout, **{**usual, **options}
    )


@asynccontextmanager
async def connected(
    base: str, *, authorization: str | None = None, limit: float = LIMIT
) -> AsyncIterator[Wire]:
    """Yield a wire to the server at ``base``, the URL before ``/policy/v1``.

    It trusts the certificates of the system, or those of ``SSL_CERT_FILE``.
    """
    tls = ssl.create_default_context() if base.startswith("https:") else True
    connector = aiohttp.TCPConnector(limit=1, ssl=tls)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=limit * 0.9)
    async with client_session(connector, timeout, skip_auto_headers=BARE) as session:
        yield Wire(session, base, authorization, limit)
