"""Login by OpenID Connect: the provider, and the authorization code with PKCE, state and nonce."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import urlencode

import aiohttp
from aiohttp import hdrs, web

from pexpolicy.cli.for_console import origin
from pexpolicy.config.schema.console import ConsoleOidcTable
from pexpolicy.config.secrets import SecretError
from pexpolicy.errors import describe_network_error
from pexpolicy_console.context import console_of, peer_of
from pexpolicy_console.login.pages import form, is_secure, path_in, start_session
from pexpolicy_console.pages.page import render
from pexpolicy_console.roles import Role, role_of_groups

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

    async def _check_scheme(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Pass a request on, unless a redirect leads from HTTPS to what anybody can read."""
        if not str(request.url).startswith(schemes_of(self.issuer)):
            fail(f"the provider leads to another scheme, {request.url.scheme}")
        return await handler(request)

    async def _document(
        self, method: str, url: str, fields: Mapping[str, str] | None = None
    ) -> Document:
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with aiohttp.ClientSession(
            timeout=timeout, trust_env=True, middlewares=(self._check_scheme,)
        ) as client:
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


def schemes_of(issuer: str) -> tuple[str, ...]:
    """Return how each URL of a provider has to begin: one with HTTPS has no other."""
    return ("https://",) if issuer.startswith("https:") else ("https://", "http://")


def endpoint_of(metadata: Document, name: str) -> str:
    """Return a URL of the metadata; raise ``OidcError``."""
    url = metadata.get(name)
    if not isinstance(url, str) or not url.startswith(schemes_of(metadata["issuer"])):
        fail(f"the provider names no {name} that can be used")
    return url


def fail(reason: str, detail: str = "") -> NoReturn:
    """Raise ``OidcError``."""
    raise OidcError(reason, detail)


CALLBACK = "/login/oidc/callback"
PENDING_S = 600.0
"""Time to log in at the provider."""
MAX_PENDING = 1000
MAX_PENDING_OF_PEER = 100
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""Signatures by the provider's key; never by a shared secret, and never none."""
LEEWAY_S = 60
MAX_USER = 250
"""Characters of the name of a user, which each page shows."""


class UnknownKeyError(OidcError):
    """None of the keys of the provider has signed the token."""


@dataclass(slots=True)
class Attempt:
    """A login that was begun, and what the provider's answer has to fit."""

    peer: str
    began: float
    path: str = "/"
    """The page that the login leads to."""
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))


class PendingAttempts:
    """Logins that were begun, by their state. One address cannot push out those of others."""

    def __init__(self) -> None:
        self._attempts: OrderedDict[str, Attempt] = OrderedDict()

    def begin(self, peer: str, now: float, path: str = "/") -> tuple[str, Attempt]:
        """Return the state of a new attempt, and the attempt."""
        of_peer = [state for state, one in self._attempts.items() if one.peer == peer]
        if len(of_peer) >= MAX_PENDING_OF_PEER:
            del self._attempts[of_peer[0]]
        elif len(self._attempts) >= MAX_PENDING:
            self._attempts.popitem(last=False)
        state, attempt = secrets.token_urlsafe(24), Attempt(peer, now, path)
        self._attempts[state] = attempt
        return state, attempt

    def take(self, state: str, now: float) -> Attempt | None:
        """Return an attempt, once, unless it took too long."""
        attempt = self._attempts.pop(state, None)
        return None if attempt is None or now - attempt.began > PENDING_S else attempt


class OidcLogin:
    """The two requests of a login."""

    def __init__(self) -> None:
        self._attempts = PendingAttempts()
        self._provider = Provider("")

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """Send the browser to the provider."""
        table = _table(request)
        try:
            url = await self._provider_of(table).endpoint("authorization_endpoint")
        except OidcError as error:
            return _refuse(request, error)
        state, attempt = self._attempts.begin(
            origin(peer_of(request)), time.monotonic(), path_in(request.query)
        )
        digest = hashlib.sha256(attempt.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": table.client_id,
            "redirect_uri": _redirect_uri(request),
            "scope": "openid profile groups",
            "state": state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        location = f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: location})
        # Lax, because the provider's page leads back here.
        response.set_cookie(
            _cookie(request), state, secure=is_secure(request), httponly=True, samesite="Lax"
        )
        return response

    async def end(self, request: web.Request) -> web.StreamResponse:
        """Log the user in whom the provider names."""
        table, settings = _table(request), console_of(request).config.settings
        try:
            user, role, path = await self._verified(request, table)
        except OidcError as error:
            return _refuse(request, error)
        # A redirect would come from the provider's site, and be sent without a strict cookie.
        page = render(request, "logged_in.html", path=path)
        response = start_session(request, settings.console, user, role, "oidc", page)
        response.del_cookie(_cookie(request), secure=is_secure(request))
        return response

    async def _verified(
        self, request: web.Request, table: ConsoleOidcTable
    ) -> tuple[str, Role, str]:
        """Return user, role and the page that the login leads to; raise ``OidcError``."""
        state = request.query.get("state", "")
        known = request.cookies.get(_cookie(request), "")
        attempt = self._attempts.take(state, time.monotonic())
        if not state or not hmac.compare_digest(state.encode(), known.encode()):
            fail("the state is not that of this browser")
        if attempt is None:
            fail("the login took too long, or was used")
        code = request.query.get("code", "")
        if not code:
            fail("the provider refused", request.query.get("error", "no code")[:100])
        provider = self._provider_of(table)
        reply = await provider.tokens(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": _redirect_uri(request),
                "client_id": table.client_id,
                "code_verifier": attempt.verifier,
                **_secret(request, table),
            }
        )
        token = reply.get("id_token")
        if not isinstance(token, str):
            fail("the provider sent no ID token")
        return *await verified(provider, token, table, attempt.nonce), attempt.path

    def _provider_of(self, table: ConsoleOidcTable) -> Provider:
        if self._provider.issuer != table.issuer:
            self._provider = Provider(table.issuer)
        return self._provider


async def verified(
    provider: Provider, token: str, table: ConsoleOidcTable, nonce: str
) -> tuple[str, Role]:
    """Return user and role of an ID token, by the keys of the provider; raise ``OidcError``."""
    keys = await provider.keys()
    try:
        return identity(token, keys, table, nonce)
    except UnknownKeyError:
        renewed = await provider.keys(RENEWAL_S)
        if renewed is keys:
            raise
        return identity(token, renewed, table, nonce)


def identity(
    token: str, keys: Mapping[str, Any], table: ConsoleOidcTable, nonce: str
) -> tuple[str, Role]:
    """Return user and role of an ID token; raise ``OidcError``, ``UnknownKeyError`` where other
    keys of the provider may fit.

    Issuer, audience, nonce and groups are compared exactly.
    """
    from joserfc import jwt  # noqa: PLC0415 - an extra
    from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError  # noqa: PLC0415
    from joserfc.jwk import KeySet  # noqa: PLC0415

    registry = jwt.JWTClaimsRegistry(
        leeway=LEEWAY_S,
        iss={"essential": True, "value": table.issuer},
        aud={"essential": True, "value": table.client_id},
        nonce={"essential": True, "value": nonce},
        exp={"essential": True},
    )
    try:
        claims = jwt.decode(token, KeySet.import_key_set(dict(keys)), list(ALGORITHMS)).claims  # type: ignore[arg-type]
        registry.validate(claims)
    except (BadSignatureError, InvalidKeyIdError) as error:
        raise UnknownKeyError(f"the token is not valid: {type(error).__name__}") from None
    except (JoseError, ValueError, TypeError, KeyError) as error:
        fail(f"the token is not valid: {type(error).__name__}")
    if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and "azp" not in claims:
        fail("the token is for several clients, and names none that asked")
    if claims.get("azp", table.client_id) != table.client_id:
        fail("the token is for another client")
    user, groups = claims.get(table.user_claim), claims.get(table.groups_claim, [])
    if not isinstance(user, str) or not 0 < len(user) <= MAX_USER:
        fail(f"the token has no text {table.user_claim} of {MAX_USER} characters at most")
    listed = groups if isinstance(groups, list) else []
    role = role_of_groups([one for one in listed if isinstance(one, str)], table.roles)
    if role is None:
        fail("the user is in no group that has a role", user[:100])
    return user, role


def _secret(request: web.Request, table: ConsoleOidcTable) -> dict[str, str]:
    source = table.secret("client_secret")
    if not source.places:
        return {}
    try:
        return {"client_secret": source.read(console_of(request).config.path.parent)}
    except SecretError as error:
        fail(f"the client secret cannot be read: {error}")


def _table(request: web.Request) -> ConsoleOidcTable:
    table = console_of(request).config.settings.console.oidc
    if table is None:
        raise web.HTTPNotFound
    return table


def _redirect_uri(request: web.Request) -> str:
    return f"{console_of(request).config.settings.console.url}{CALLBACK}"


def _cookie(request: web.Request) -> str:
    return "__Host-pexpolicy_oidc" if is_secure(request) else "pexpolicy_oidc"


def _refuse(request: web.Request, error: OidcError) -> web.StreamResponse:
    # Refusals of one reason share lines, whatever a stranger sends.
    facts = {"detail": error.detail} if error.detail else {}
    console_of(request).attempts.note(
        error.reason, HTTPStatus.UNAUTHORIZED, peer_of(request), method="oidc", **facts
    )
    text = f"The login by your organisation failed: {error}."
    return form(request, text, HTTPStatus.UNAUTHORIZED)
