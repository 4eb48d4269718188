"""What a provider of OpenID Connect says: its metadata and keys, fetched once and kept for a
bounded time, and the tokens of a login.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any, NoReturn

import aiohttp

from pexpolicy.errors import describe_network_error

TIMEOUT_S = 10.0
"""For one reply of the provider."""
MAX_REPLY = 1 << 20
"""Bytes of a reply, after decompression."""
KEPT_S = 3600.0
"""Age from which on metadata and keys are fetched again."""
RENEWAL_S = 60.0
"""The same for keys of which none has signed a token: the provider may have new ones."""
RETRY_S = 5.0
"""Time after a failure in which the provider is not asked again: logins fail for the same reason.
"""
CHUNK = 1 << 16
Document = Mapping[str, Any]
Fetch = Callable[[], Awaitable[Document]]
_log = logging.getLogger(__name__)


class OidcError(Exception):
    """The login fails for a ``reason``; what the browser or the provider sent is in ``detail``."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Provider:
    """The provider with one issuer. ``clock`` counts seconds."""

    def __init__(
        self,
        issuer: str,
        clock: Callable[[], float] = time.monotonic,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self.issuer = issuer
        self._clock = clock
        self._timeout = timeout
        self._metadata = _Kept(self._fetch_metadata, clock)
        self._keys = _Kept(self._fetch_keys, clock)
        self._warned = -math.inf

    async def endpoint(self, name: str) -> str:
        """Return a URL of the metadata; raise ``OidcError``."""
        return endpoint_of(await self._metadata.get(), name)

    async def keys(self, max_age: float = KEPT_S) -> Document:
        """Return the keys, ``max_age`` seconds old at most; raise ``OidcError``."""
        return await self._keys.get(max_age)

    async def tokens(self, fields: Mapping[str, str]) -> Document:
        """Return the tokens for the code of a login; raise ``OidcError``."""
        url = await self.endpoint("token_endpoint")
        try:
            return await self._document("POST", url, fields)
        except OidcError as error:
            # A stranger can send codes that the provider refuses.
            if self._clock() - self._warned >= RENEWAL_S:
                self._warned = self._clock()
                _log.warning("OpenID Connect, %s: %s", self.issuer, error)
            raise

    async def _fetch_metadata(self) -> Document:
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        found = await self._document("GET", url)
        if found.get("issuer") != self.issuer:
            named = repr(found.get("issuer"))[:200]
            fail(f"the provider calls itself {named}, not {self.issuer!r}")
        return found

    async def _fetch_keys(self) -> Document:
        return await self._document("GET", await self.endpoint("jwks_uri"))

    async def _document(
        self, method: str, url: str, fields: Mapping[str, str] | None = None
    ) -> Document:
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as client:
            # A redirect would send the code and the secret of a form to another place.
            reply = client.request(method, url, data=fields, allow_redirects=fields is None)
            try:
                return await _read(reply)
            except TimeoutError:
                fail(f"the provider does not answer within {self._timeout:g} s")
            except (aiohttp.ClientError, OSError) as error:
                why = describe_network_error(error.__cause__ or error)
                fail(f"the provider does not answer: {why}")


class _Kept:
    """A document that one login fetches, while others wait for it."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._document: Document = {}
        self._fetched = self._failed = -math.inf
        self._failure = OidcError("")

    async def get(self, max_age: float = KEPT_S) -> Document:
        async with self._lock:
            now = self._clock()
            if now - self._fetched < max_age:
                return self._document
            if now - self._failed >= RETRY_S:
                try:
                    self._document = await self._fetch()
                except OidcError as error:
                    self._failed, self._failure = now, error
                    _log.warning("OpenID Connect: %s", error)
                else:
                    self._fetched = now
                    return self._document
            raise OidcError(self._failure.reason, self._failure.detail)


async def _read(request: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> Document:
    async with request as reply:
        url = reply.url.with_query(None)
        if reply.status != HTTPStatus.OK:
            fail(f"{url} answers {reply.status}")
        content = bytearray()
        async for chunk in reply.content.iter_chunked(CHUNK):
            content += chunk
            if len(content) > MAX_REPLY:
                fail(f"{url} answers more than {MAX_REPLY:,} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        fail(f"{url} answers no JSON")
    if not isinstance(document, dict):
        fail(f"{url} answers no JSON object")
    return document


def endpoint_of(metadata: Document, name: str) -> str:
    """Return a URL of the metadata; raise ``OidcError``.

    Of a provider with HTTPS all are encrypted.
    """
    url = metadata.get(name)
    schemes = ("https://",) if metadata["issuer"].startswith("https:") else ("https://", "http://")
    if not isinstance(url, str) or not url.startswith(schemes):
        fail(f"the provider names no {name} that can be used")
    return url


def fail(reason: str, detail: str = "") -> NoReturn:
    """Raise ``OidcError``."""
    raise OidcError(reason, detail)
