"""Who may ask: networks, named proxies and credentials of one configuration.

A request like an earlier one on its connection is admitted by a comparison (``known``); any other
is looked at closely (``examine``).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import hdrs, web

from pexpolicy.access.connections import AuthenticatedRequest, Connection
from pexpolicy.access.credentials import Credentials, VerifiedDigests, pair_of
from pexpolicy.access.forwarded import ForwardedHeaders
from pexpolicy.access.known_peers import KnownPeers
from pexpolicy.access.networks import Networks
from pexpolicy.access.refusals import BUSY, NOT_ALLOWED, UNAUTHORISED, Refusal
from pexpolicy.access.throttle import CancellableSleeps, LoginThrottle
from pexpolicy.access.verification_pool import VerificationQueueFull
from pexpolicy.config.credentials import Credential
from pexpolicy.config.settings import Settings

BUSY_DELAY = 1.0
"""Seconds before the answer to credentials that there was no time to look at."""


@dataclass(frozen=True, slots=True)
class SharedAccessState:
    """What gates find out, and hand on to the gate of the next configuration."""

    learned: VerifiedDigests = field(default_factory=VerifiedDigests)
    attempts: LoginThrottle = field(default_factory=LoginThrottle)
    delays: CancellableSleeps = field(default_factory=CancellableSleeps)
    known: KnownPeers = field(default_factory=KnownPeers)


class AccessControl:
    """Admits requests, or says why not. Frozen; another configuration makes another one
    (``for_settings``), which takes over what was learned.
    """

    def __init__(
        self,
        networks: Networks | None = None,
        forwarding: ForwardedHeaders | None = None,
        credentials: Iterable[Credential] = (),
        kept: SharedAccessState | None = None,
    ) -> None:
        self._networks = networks or Networks()
        self._forwarding = forwarding or ForwardedHeaders(Networks())
        self._kept = kept or SharedAccessState()
        given = tuple(credentials)
        self._credentials = Credentials(given, self._kept.learned) if given else None

    @classmethod
    def of(cls, settings: Settings) -> AccessControl:
        """The gate of a configuration."""
        return cls().for_settings(settings)

    @property
    def verifies_slowly(self) -> bool:
        """True where a password is hashed, so that it matters who is verified first."""
        return self._credentials is not None and self._credentials.has_hashes

    def remember(self, peers: Iterable[str]) -> None:
        """Verify credentials from these addresses before those of strangers."""
        self._kept.known.add(*peers)

    def for_settings(self, settings: Settings) -> AccessControl:
        """The gate of another configuration; it knows what this one learned of credentials and
        peers.
        """
        access = settings.access
        return AccessControl(
            Networks(access.networks),
            ForwardedHeaders(Networks(access.trusted_proxies), access.forwarded_header),
            settings.credentials,
            self._kept,
        )

    def may_connect(self, peer: str) -> bool:
        """True for an address in one of the networks, or of a named proxy."""
        return not self._networks or self._networks.holds(peer) or self._forwarding.names(peer)

    def is_proxy(self, peer: str) -> bool:
        """True for the address of a named proxy."""
        return self._forwarding.names(peer)

    def cached_peer(self, request: web.BaseRequest) -> str | None:
        """The address that a request comes from, where it shows what was admitted before on its
        connection; else ``None``.
        """
        connection: Connection | None = getattr(request.protocol, "connection", None)
        if connection is None or (shown := connection.admission) is None or shown.gate is not self:
            return None
        if self._credentials is not None:
            header = request.headers.get(hdrs.AUTHORIZATION, "")
            given = header.encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, shown.authorization):
                return None
        if shown.forwarded is not None and self._forwarding.written(request) != shown.forwarded:
            return None
        return shown.peer

    async def authenticate(self, request: web.BaseRequest) -> AuthenticatedRequest | Refusal:
        """Admit a request and remember it with its connection, or refuse it.

        Wrong credentials are refused after a delay that grows with their number.
        """
        peer, client, forwarded = self._origin(request)
        if self._networks and (client is None or not self._networks.holds(client)):
            amiss = self._forwarding.amiss(peer, client, forwarded)
            return Refusal(NOT_ALLOWED, HTTPStatus.FORBIDDEN, client or peer, amiss)
        origin = client or peer
        if self._credentials is not None:
            refusal = await self._unproven(self._credentials, request, origin)
            if refusal is not None:
                return refusal
            self.remember((origin,))
        admission = AuthenticatedRequest(self, _authorization(request), forwarded, origin)
        connection: Connection | None = getattr(request.protocol, "connection", None)
        if connection is not None:
            connection.admit(admission)
        return admission

    def peer(self, request: web.BaseRequest) -> str:
        """The address that a request comes from, for the audit."""
        peer, client, _ = self._origin(request)
        return client or peer

    def _origin(self, request: web.BaseRequest) -> tuple[str, str | None, str | None]:
        """The peer of a request, its client, and the header that names the client."""
        connection: Connection | None = getattr(request.protocol, "connection", None)
        peer = connection.peer if connection is not None else request.remote or ""
        if not self._forwarding.names(peer):
            return peer, peer, None
        return peer, self._forwarding.client(peer, request), self._forwarding.written(request)

    async def _unproven(
        self, credentials: Credentials, request: web.BaseRequest, origin: str
    ) -> Refusal | None:
        pair = pair_of(request.headers.get(hdrs.AUTHORIZATION, ""))
        if not pair:
            # Whoever sends no user and password does not guess them.
            return Refusal(UNAUTHORISED, HTTPStatus.UNAUTHORIZED, origin)
        now = asyncio.get_running_loop().time()
        attempts = self._kept.attempts
        if credentials.recognises(pair):
            return None
        try:
            with attempts.trying(origin, now) as count:
                is_known = origin in self._kept.known
                if await credentials.verify(pair, count, is_known=is_known):
                    return None
        except VerificationQueueFull:
            await self._kept.delays.wait(BUSY_DELAY)
            return Refusal(BUSY, HTTPStatus.TOO_MANY_REQUESTS, origin)
        await self._kept.delays.wait(attempts.failed(origin, now))
        return Refusal(UNAUTHORISED, HTTPStatus.UNAUTHORIZED, origin)

    def close(self) -> None:
        """Verify no further credentials, and let no answer wait."""
        self._kept.learned.turnstile.close()
        self._kept.delays.end()


def _authorization(request: web.BaseRequest) -> bytes:
    header: str = request.headers.get(hdrs.AUTHORIZATION, "")
    return header.encode("utf-8", "surrogateescape")
