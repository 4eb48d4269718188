"""Sending what a node sends: raw targets, one connection, no redirects, five seconds."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from pexpolicy.errors import describe_network_error

LIMIT = 5.0
"""Seconds after which Infinity gives up (observed in v16, transcribed)."""
MAX_BODY = 4 * 1024 * 1024
"""Bytes of a reply that the probe reads; no reply needs more."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, or why nothing did."""

    seconds: float
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str = ""
    """Why there is no whole reply; empty where there is one."""
    late: bool = False
    """True when the time was over before the reply was whole."""
    torn: bool = False
    """True when the body was not as long as it said, or longer than any reply needs to be."""
    refused: bool = False
    """True when there was nobody to connect to."""

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


class Wire:
    """The way to one policy server, by the keep-alive connections of a session.

    ``limit`` is the time for a whole reply in seconds, ``max_body`` its longest body in bytes.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: str,
        *,
        authorization: str | None = None,
        limit: float = LIMIT,
        max_body: int = MAX_BODY,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.base = base.rstrip("/")
        self.authorization = authorization
        self.limit = limit
        self.max_body = max_body
        self._session = session
        self._clock = clock

    @property
    def path(self) -> str:
        """The path of the server in front of ``/policy/v1``, as on the wire."""
        return URL(self.base, encoded=True).raw_path.rstrip("/")

    async def get(self, target: str, limit: float | None = None) -> Reply:
        """Ask for a path and query that are sent byte for byte as they stand.

        ``limit`` stands instead of that of the wire, where less time is left.
        """
        headers = {} if self.authorization is None else {"Authorization": self.authorization}
        began = self._clock()
        try:
            async with (
                asyncio.timeout(self.limit if limit is None else limit),
                self._session.get(
                    URL(self.base + target, encoded=True), headers=headers, allow_redirects=False
                ) as response,
            ):
                body = await _read(response.content, self.max_body)
                return Reply(self._clock() - began, response.status, response.headers.copy(), body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return _failed(error, self._clock() - began)


CLOSED = "the server closed the connection"
NO_HTTP = "what came is no HTTP, or follows a body that was longer than it said"


class TooLongError(aiohttp.ClientPayloadError):
    """The body is longer than any reply needs to be."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is longer than {limit} bytes")


_FAILURES: tuple[tuple[type[Exception], dict[str, Any]], ...] = (
    (aiohttp.ConnectionTimeoutError, {"failure": "nobody takes the connection", "refused": True}),
    (TimeoutError, {"failure": "no whole reply in time", "late": True}),
    (aiohttp.ClientConnectorError, {"failure": "there is no connection", "refused": True}),
    (aiohttp.ServerDisconnectedError, {"failure": CLOSED}),
    (aiohttp.ClientOSError, {"failure": CLOSED}),
    (ConnectionError, {"failure": CLOSED}),
    (TooLongError, {"torn": True}),
    (aiohttp.ClientPayloadError, {"failure": "the body is shorter than it says", "torn": True}),
    (Exception, {"failure": NO_HTTP, "torn": True}),
)
"""What an error means, by the first class that it belongs to."""


def _failed(error: Exception, seconds: float) -> Reply:
    """Why there is no reply; the text of most errors repeats what came, which may hold a PIN."""
    meaning = next(meaning for kind, meaning in _FAILURES if isinstance(error, kind))
    if isinstance(error, aiohttp.ClientConnectorError):
        place = f"{error.host}:{error.port}"
        meaning = {
            **meaning,
            "failure": f"no connection to {place}: {describe_network_error(error.os_error)}"[:200],
        }
    elif isinstance(error, TooLongError):
        meaning = {**meaning, "failure": str(error)}
    return Reply(seconds, **meaning)


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > limit:
            raise TooLongError(limit)
    return bytes(body)


def basic(user: str, password: str) -> str:
    """The ``Authorization`` header of a user and password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@asynccontextmanager
async def connected(
    base: str,
    *,
    authorization: str | None = None,
    limit: float = LIMIT,
    clock: Clock = time.perf_counter,
) -> AsyncIterator[Wire]:
    """A wire to the server at ``base``, the URL in front of ``/policy/v1``; closed on leaving."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept-Encoding", "User-Agent"),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=limit * 0.9),
    ) as session:
        yield Wire(session, base, authorization=authorization, limit=limit, clock=clock)
