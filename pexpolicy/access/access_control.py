"""Access control of one configuration: networks, trusted proxies and credentials.

A request with the same headers as an earlier one on its connection is admitted by a comparison
(``cached``). Any other request is verified in full (``authenticate``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from hmac import compare_digest

from aiohttp import hdrs, web

from pexpolicy.access.connections import AuthenticatedRequest, Connection
from pexpolicy.access.credentials import (
    Credentials,
    LoginThrottle,
    VerificationPool,
    VerificationQueueFull,
    pair_of,
)
from pexpolicy.access.refusals import (
    BUSY,
    CERTIFICATE_EXPIRED,
    CERTIFICATE_REVOKED,
    NOT_ALLOWED,
    UNAUTHORISED,
    Refusal,
)
from pexpolicy.config.schema.server import AccessTable
from pexpolicy.config.secrets import Credential
from pexpolicy.config.settings import Environments, Settings
from pexpolicy.models.subnets import Subnets, read_subnet

BUSY_DELAY_S = 0.5
"""Delay of the reply to credentials that were not verified because the queue is full."""


class Networks(Subnets[None]):
    """A list of networks. An empty one holds no address and is false."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Parse texts such as ``10.0.0.0/8``; raises ``SubnetError`` for an invalid one."""
        super().__init__((network, None) for network in dict.fromkeys(map(read_subnet, texts)))

    def holds(self, address: str) -> bool:
        """Return whether an address is in one of them; an IPv4-mapped one counts as IPv4."""
        return self.find(address) is not None


class TrustedProxies(Networks):
    """The proxies whose ``X-Forwarded-For`` names the client.

    A client may send that header too, so only what a trusted proxy appended counts: the list is
    read from its end, and the first address that is not a trusted proxy is the client.
    """

    def header(self, request: web.BaseRequest) -> str:
        """Return the header as received; several lines of it are one list (RFC 9110, 5.3)."""
        return ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ()))

    def client(self, peer: str, request: web.BaseRequest) -> str | None:
        """Return the address of the client of a trusted proxy ``peer``.

        That is the proxy itself where it names no client, and ``None`` for an invalid header.
        """
        header, client = self.header(request), peer
        for entry in reversed(header.split(",") if header else ()):
            address = _address(entry)
            if address is None or not self.holds(address):
                return address
            client = address
        return client


def _address(entry: str) -> str | None:
    """Return an address as proxies write it, with or without port, brackets and quotes."""
    text = entry.strip().strip('"')
    if "]" in text or text.count(":") == 1:
        text = text.removeprefix("[").partition("]" if "]" in text else ":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


class AccessControl:
    """Admits or refuses requests. It starts with what the ``previous`` one has learned."""

    events: AccessControl | None = None
    """The access control of event sinks, if there are any."""

    def __init__(
        self,
        table: AccessTable,
        credentials: Iterable[Credential] = (),
        environments: Environments | None = None,
        previous: AccessControl | None = None,
    ) -> None:
        self._networks = Networks(table.networks)
        self._proxies = TrustedProxies(table.trusted_proxies)
        self._environments = environments or Environments({})
        self.pool: VerificationPool = previous.pool if previous else VerificationPool()
        self.throttle: LoginThrottle = previous.throttle if previous else LoginThrottle()
        configured = tuple(credentials)
        self._credentials = Credentials(configured, self.pool) if configured else None

    @classmethod
    def of(cls, settings: Settings, previous: AccessControl | None = None) -> AccessControl:
        """Return the access control of a configuration, with the state of the ``previous`` one."""
        table, nodes, sources = settings.access, settings.nodes, settings.event_credentials
        new = cls(table, settings.credentials, nodes, previous)
        if sources:
            # Guesses of the password of a sink must not slow down calls, so it shares nothing.
            new.events = cls(table, sources.values(), nodes, previous and previous.events)
        return new

    def may_connect(self, peer: str) -> bool:
        """Return whether an address is in one of the networks, or is a trusted proxy."""
        return not self._networks or self._networks.holds(peer) or self._proxies.holds(peer)

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
            # Checked here too: most connections have no certificate, and this runs in each call.
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
            return Refusal(reason, 403, peer, closes=True)
        if self._networks and (client is None or not self._networks.holds(client)):
            detail = ""
            if forwarded is not None and (client is None or self._proxies.holds(client)):
                # The header is untrusted and not repeated.
                detail = f"the proxy {connection.peer} names no client in {hdrs.X_FORWARDED_FOR}"
            return Refusal(NOT_ALLOWED, 403, peer, detail)
        authorization, credential, user = _authorization(request), 0, None
        if self._credentials is not None:
            pair = pair_of(authorization)
            refusal = await self._verify_credentials(self._credentials, pair, request, peer)
            if refusal is not None:
                return refusal
            # Without credentials anyone is admitted, so that would distinguish no one.
            self.pool.remember((peer,))
            credential = self._credentials.number(pair)
            user = pair.partition(b":")[0].decode(errors="replace")
        environment = self._environments.of(user, peer)
        admission = AuthenticatedRequest(
            self, authorization, forwarded, peer, credential, environment
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
            return Refusal(UNAUTHORISED, 401, peer)
        connection = connection_of(request)
        connection.hold()
        try:
            if await credentials.verify(pair, peer):
                return None
            refusal = Refusal(UNAUTHORISED, 401, peer)
            delay = self.throttle.record_failure(peer)
        except VerificationQueueFull:
            refusal, delay = Refusal(BUSY, 429, peer), BUSY_DELAY_S
        # The connection may be evicted meanwhile.
        connection.wait()
        await self.throttle.delay(delay)
        return refusal

    def close(self) -> None:
        """Stop verifying credentials and release all delayed replies."""
        self.pool.close()
        self.throttle.cancel()
        if self.events is not None:
            self.events.close()


def connection_of(request: web.BaseRequest) -> Connection:
    """Return the connection on which a request has arrived."""
    connection: Connection = request.protocol.connection  # type: ignore[attr-defined]
    return connection


def _authorization(request: web.BaseRequest) -> bytes:
    header: str = request.headers.get(hdrs.AUTHORIZATION, "")
    return header.encode("utf-8", "surrogateescape")
