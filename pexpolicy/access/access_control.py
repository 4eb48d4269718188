"""Access control of one configuration: networks, trusted proxies and credentials.

A request with the same headers as an earlier one on its connection is admitted by a comparison
(``cached``). Any other request is verified in full (``authenticate``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from copy import copy
from hmac import compare_digest
from http import HTTPStatus

from aiohttp import hdrs, web

from pexpolicy.access.connections import AuthenticatedRequest, Connection
from pexpolicy.access.credentials import (
    Credentials,
    LoginThrottle,
    VerificationPool,
    VerificationQueueFull,
    pair_of,
)
from pexpolicy.access.networks import Networks, TrustedProxies
from pexpolicy.access.refusals import (
    BUSY,
    CERTIFICATE_EXPIRED,
    CERTIFICATE_REVOKED,
    NOT_ALLOWED,
    UNAUTHORISED,
    Refusal,
)
from pexpolicy.config.credentials import Credential
from pexpolicy.config.environments import Environments
from pexpolicy.config.settings import Settings

BUSY_DELAY_S = 0.5
"""Delay of the reply to credentials that were not verified because the queue is full."""


class AccessControl:
    """Admits or refuses requests. ``for_settings`` makes the one of another configuration, which
    shares what this one has learned.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks, self._proxies = Networks(networks), TrustedProxies()
        self._environments = Environments({})
        self._credentials: Credentials | None = None
        self._pool = VerificationPool()
        self._throttle = LoginThrottle()
        self.remember = self._pool.remember
        self.events: AccessControl | None = None
        """The access control of event sinks, if there are any."""

    def for_settings(self, settings: Settings) -> AccessControl:
        """Return the access control of another configuration, with the state of this one."""
        made, platforms = self._with(settings, settings.credentials), settings.event_credentials
        # Guesses of the password of a sink must not slow down calls, so it shares nothing.
        events = self.events or AccessControl()
        made.events = events._with(settings, [*platforms.values()]) if platforms else None  # noqa: SLF001
        return made

    def _with(self, settings: Settings, configured: Sequence[Credential]) -> AccessControl:
        made = copy(self)
        made._networks = Networks(settings.access.networks)  # noqa: SLF001 - of this class
        made._proxies = TrustedProxies(settings.access.trusted_proxies)  # noqa: SLF001
        made._environments = settings.nodes  # noqa: SLF001
        made._credentials = Credentials(configured, self._pool) if configured else None  # noqa: SLF001
        return made

    def may_connect(self, peer: str) -> bool:
        """Return whether an address is in one of the networks, or is a trusted proxy."""
        return not self._networks or self._networks.holds(peer) or self._proxies.holds(peer)

    def is_known(self, peer: str) -> bool:
        """Return whether an address is a trusted proxy, or right credentials came from it."""
        return self._pool.is_known(peer) or self._proxies.holds(peer)

    def is_proxy(self, peer: str) -> bool:
        """Return whether an address is a trusted proxy."""
        return self._proxies.holds(peer)

    def cached(self, request: web.BaseRequest) -> AuthenticatedRequest | None:
        """Return what was admitted before on the connection of a request with the same headers."""
        connection = connection_of(request)
        cached, credentials = connection.admission, self._credentials
        if (
            cached is not None
            and cached.access is self
            and (connection.not_after is None or not connection.has_expired())
            and (
                credentials is None or compare_digest(_authorization(request), cached.authorization)
            )
            and (cached.forwarded is None or self._proxies.header(request) == cached.forwarded)
        ):
            return cached
        return None

    async def authenticate(self, request: web.BaseRequest) -> AuthenticatedRequest | Refusal:
        """Admit a request and cache that on its connection, or refuse it.

        Wrong credentials are refused after a delay that grows with their number.
        """
        connection = connection_of(request)
        client, forwarded = self._client(request)
        peer = client or connection.peer
        if connection.has_expired():
            reason = CERTIFICATE_REVOKED if connection.is_revoked else CERTIFICATE_EXPIRED
            return Refusal(reason, HTTPStatus.FORBIDDEN, peer, closes=True)
        if self._networks and (client is None or not self._networks.holds(client)):
            detail = self._proxies.describe_problem(connection.peer, client, forwarded)
            return Refusal(NOT_ALLOWED, HTTPStatus.FORBIDDEN, peer, detail)
        credential, pair = 0, pair_of(request.headers.get(hdrs.AUTHORIZATION, ""))
        if self._credentials is not None:
            refusal = await self._verify_credentials(self._credentials, pair, request, peer)
            if refusal is not None:
                return refusal
            # Without credentials anyone is admitted, so that would distinguish no one.
            self.remember((peer,))
            credential = self._credentials.number(pair)
        user = pair.partition(b":")[0].decode(errors="replace") if self._credentials else None
        admission = AuthenticatedRequest(
            self,
            _authorization(request),
            forwarded,
            peer,
            credential,
            self._environments.of(user, peer),
        )
        connection.admit(admission)
        return admission

    def peer(self, request: web.BaseRequest) -> str:
        """Return the client of a request, for the audit."""
        return self._client(request)[0] or connection_of(request).peer

    def _client(self, request: web.BaseRequest) -> tuple[str | None, str | None]:
        """Return the client of a request, and the header of a trusted proxy that names it."""
        peer = connection_of(request).peer
        if not self._proxies.holds(peer):
            return peer, None
        return self._proxies.client(peer, request), self._proxies.header(request)

    async def _verify_credentials(
        self, credentials: Credentials, pair: bytes, request: web.BaseRequest, peer: str
    ) -> Refusal | None:
        if not pair:
            # A request without user and password is no guess, so it is not delayed.
            return Refusal(UNAUTHORISED, HTTPStatus.UNAUTHORIZED, peer)
        if credentials.is_verified(pair):
            return None
        connection, now = connection_of(request), asyncio.get_running_loop().time()
        connection.hold()
        try:
            if await credentials.verify(pair, peer):
                return None
            refusal = Refusal(UNAUTHORISED, HTTPStatus.UNAUTHORIZED, peer)
            delay = self._throttle.record_failure(peer, now)
        except VerificationQueueFull:
            refusal, delay = Refusal(BUSY, HTTPStatus.TOO_MANY_REQUESTS, peer), BUSY_DELAY_S
        # The connection may be evicted meanwhile.
        connection.wait()
        await self._throttle.delay(delay)
        return refusal

    def close(self) -> None:
        """Stop verifying credentials and release all delayed replies."""
        self._pool.close()
        self._throttle.cancel()
        if self.events is not None:
            self.events.close()


def connection_of(request: web.BaseRequest) -> Connection:
    """Return the connection on which a request has arrived."""
    connection: Connection = request.protocol.connection  # type: ignore[attr-defined]
    return connection


def _authorization(request: web.BaseRequest) -> bytes:
    header: str = request.headers.get(hdrs.AUTHORIZATION, "")
    return header.encode("utf-8", "surrogateescape")
