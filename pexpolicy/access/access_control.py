"""Access control of one configuration: networks, trusted proxies and credentials.

A request with the same headers as an earlier one on its connection is admitted by a comparison
(``cached_peer``). Any other request is verified in full (``authenticate``).
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import hdrs, web

from pexpolicy.access.connections import AuthenticatedRequest, Connection
from pexpolicy.access.credentials import (
    CancellableSleeps,
    Credentials,
    KnownPeers,
    LoginThrottle,
    VerificationQueueFull,
    VerifiedDigests,
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
from pexpolicy.config.settings import Settings

BUSY_DELAY_S = 0.5
"""Delay of the reply to credentials that were not verified because the queue is full."""
MAX_RIGHT = 8
"""Headers with right credentials that are stored, to compare those of new connections with."""


@dataclass(frozen=True, slots=True)
class SharedAccessState:
    """State that the access control of the next configuration continues to use."""

    verified: VerifiedDigests = field(default_factory=VerifiedDigests)
    throttle: LoginThrottle = field(default_factory=LoginThrottle)
    delays: CancellableSleeps = field(default_factory=CancellableSleeps)
    known_peers: KnownPeers = field(default_factory=KnownPeers)


class AccessControl:
    """Admits or refuses requests. ``for_settings`` makes the one of another configuration, which
    shares the state of this one.
    """

    def __init__(
        self,
        networks: Networks | None = None,
        proxies: TrustedProxies | None = None,
        credentials: Iterable[Credential] = (),
        state: SharedAccessState | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._networks = networks or Networks()
        self._proxies = proxies or TrustedProxies()
        self._state = state or SharedAccessState()
        self._clock = clock
        configured = tuple(credentials)
        self._credentials = Credentials(configured, self._state.verified) if configured else None
        self._right: deque[bytes] = deque(maxlen=MAX_RIGHT)
        """``Authorization`` headers with right credentials."""

    @classmethod
    def of(cls, settings: Settings) -> AccessControl:
        """Return the access control of a configuration."""
        return cls().for_settings(settings)

    @property
    def verifies_slowly(self) -> bool:
        """True if a password is hashed, so that the order of verification matters."""
        return self._credentials is not None and self._credentials.has_hashes

    def remember(self, peers: Iterable[str]) -> None:
        """Prefer these addresses: right credentials came from them."""
        self._state.known_peers.add(*peers)

    def for_settings(self, settings: Settings) -> AccessControl:
        """Return the access control of another configuration, with the state of this one."""
        access = settings.access
        return AccessControl(
            Networks(access.networks),
            TrustedProxies(Networks(access.trusted_proxies)),
            settings.credentials,
            self._state,
            self._clock,
        )

    def may_connect(self, peer: str) -> bool:
        """Return whether an address is in one of the networks, or is a trusted proxy."""
        return not self._networks or self._networks.holds(peer) or self._proxies.holds(peer)

    def is_known(self, peer: str) -> bool:
        """Return whether an address is a trusted proxy, or right credentials came from it."""
        return peer in self._state.known_peers or self._proxies.holds(peer)

    def is_proxy(self, peer: str) -> bool:
        """Return whether an address is a trusted proxy."""
        return self._proxies.holds(peer)

    def cached_peer(self, request: web.BaseRequest) -> str | None:
        """Return the client of a request whose headers were admitted before on its connection; else
        ``None``.
        """
        connection: Connection | None = getattr(request.protocol, "connection", None)
        if (
            connection is None
            or (cached := connection.admission) is None
            or cached.access is not self
            or (connection.not_after is not None and connection.has_expired(self._clock()))
        ):
            return None
        if self._credentials is not None and not hmac.compare_digest(
            _authorization(request), cached.authorization
        ):
            return None
        header = cached.forwarded
        if header is not None and self._proxies.header(request) != header:
            return None
        return cached.peer

    async def authenticate(self, request: web.BaseRequest) -> AuthenticatedRequest | Refusal:
        """Admit a request and cache that on its connection, or refuse it.

        Wrong credentials are refused after a delay that grows with their number.
        """
        peer, client, forwarded = self._origin(request)
        connection: Connection | None = getattr(request.protocol, "connection", None)
        if connection is not None and connection.has_expired(self._clock()):
            reason = CERTIFICATE_REVOKED if connection.is_revoked else CERTIFICATE_EXPIRED
            return Refusal(reason, HTTPStatus.FORBIDDEN, client or peer, closes=True)
        if self._networks and (client is None or not self._networks.holds(client)):
            detail = self._proxies.describe_problem(peer, client, forwarded)
            return Refusal(NOT_ALLOWED, HTTPStatus.FORBIDDEN, client or peer, detail)
        origin = client or peer
        if self._credentials is not None:
            verifying = self._verify_credentials(self._credentials, request, origin, connection)
            refusal = await verifying
            if refusal is not None:
                return refusal
            # Without credentials anyone is admitted, so that would distinguish no one.
            self.remember((origin,))
        admission = AuthenticatedRequest(self, _authorization(request), forwarded, origin)
        if connection is not None:
            connection.admit(admission)
        return admission

    def peer(self, request: web.BaseRequest) -> str:
        """Return the client of a request, for the audit."""
        peer, client, _ = self._origin(request)
        return client or peer

    def _origin(self, request: web.BaseRequest) -> tuple[str, str | None, str | None]:
        """Return the peer of a request, its client, and the header that names the client."""
        connection: Connection | None = getattr(request.protocol, "connection", None)
        peer = connection.peer if connection is not None else request.remote or ""
        if not self._proxies.holds(peer):
            return peer, peer, None
        return peer, self._proxies.client(peer, request), self._proxies.header(request)

    async def _verify_credentials(
        self,
        credentials: Credentials,
        request: web.BaseRequest,
        origin: str,
        connection: Connection | None,
    ) -> Refusal | None:
        header = _authorization(request)
        if any(hmac.compare_digest(header, one) for one in self._right):
            return None
        pair = pair_of(request.headers.get(hdrs.AUTHORIZATION, ""))
        if not pair:
            # A request without user and password is no guess, so it is not delayed.
            return Refusal(UNAUTHORISED, HTTPStatus.UNAUTHORIZED, origin)
        now = asyncio.get_running_loop().time()
        throttle = self._state.throttle
        if credentials.is_verified(pair):
            self._right.append(header)
            return None
        if connection is not None:
            connection.hold()
        try:
            with throttle.attempt(origin, now) as attempts:
                is_known = origin in self._state.known_peers
                if await credentials.verify(pair, attempts, peer=origin, is_known=is_known):
                    return None
        except VerificationQueueFull:
            await self._delay(BUSY_DELAY_S, connection)
            return Refusal(BUSY, HTTPStatus.TOO_MANY_REQUESTS, origin)
        await self._delay(throttle.record_failure(origin, now), connection)
        return Refusal(UNAUTHORISED, HTTPStatus.UNAUTHORIZED, origin)

    async def _delay(self, seconds: float, connection: Connection | None) -> None:
        """Delay a refusal; the connection may be evicted meanwhile."""
        if connection is not None:
            connection.wait()
        await self._state.delays.wait(seconds)

    def close(self) -> None:
        """Stop verifying credentials and release all delayed replies."""
        self._state.verified.pool.close()
        self._state.delays.cancel()


def _authorization(request: web.BaseRequest) -> bytes:
    header: str = request.headers.get(hdrs.AUTHORIZATION, "")
    return header.encode("utf-8", "surrogateescape")
