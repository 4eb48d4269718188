"""HTTP client of the sources: TLS, bounded replies, and errors as ``PictureError``."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
from yarl import URL

from pexpolicy_avatars.source import MAX_BYTES, PictureError

CONNECTIONS = 20
IDLE_S = 30.0
"""Seconds that an unused connection is kept."""


class Answer:
    """A complete reply: status, headers and body."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body
        self.line = status_line(response.status)


class HttpClient:
    """A session with its own connections. It uses no proxy, cookies, redirects or compression."""

    def __init__(self, timeout: float, tls: ssl.SSLContext) -> None:
        self._timeout = timeout
        self._tls = tls
        self._session: aiohttp.ClientSession

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the session."""
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._tls, keepalive_timeout=IDLE_S)
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding",),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
        ) as self._session:
            yield

    async def ask(self, method: str, url: URL, **options: Any) -> Answer:
        """Return the reply to a request; raises ``PictureError`` if there is none in time."""
        try:
            async with self._session.request(
                method, url, allow_redirects=False, **options
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        text = f"{url.host}: the reply has more than {MAX_BYTES:,} bytes"
                        raise PictureError(text)
                return Answer(response, bytes(body))
        except TimeoutError:
            text = f"{url.host}: no reply within {self._timeout:.3g} s"
            raise PictureError(text) from None
        except aiohttp.ClientResponseError:
            # Its text has the whole URL, with the name of a person, and what the server sent.
            raise PictureError(f"{url.host}: the reply is not HTTP") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PictureError(f"{url.host}: {type(error).__name__}: {error}") from None


def status_line(status: int) -> str:
    """Return a status with its usual name: a server may write what it got into its own."""
    names = {known.value: known.phrase for known in HTTPStatus}
    return f"HTTP {status} {names.get(status, '')}".rstrip()
