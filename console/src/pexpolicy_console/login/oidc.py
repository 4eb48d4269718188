"""Login by OpenID Connect: the provider, and the authorization code with PKCE, state and nonce."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

from pexpolicy.config.schema.console import ConsoleOidcTable
from pexpolicy.config.secrets import SecretError
from pexpolicy.errors import describe_network_error
from pexpolicy_console.context import Response, console_of, peer_of, redirect, render
from pexpolicy_console.login.pages import form, is_secure, path_in, start_session
from pexpolicy_console.login.sessions import Role

TIMEOUT_S = 10.0
"""For one reply of the provider."""
KEPT_S = 3600.0
"""Age from which on metadata is fetched again."""
RETRY_S = 5.0
"""Time after a failure in which logins fail for the same reason, without asking again."""
CALLBACK = "/login/oidc/callback"
PENDING_S = 600
"""Time to log in at the provider."""
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""Signatures by the provider's key; never by a shared secret, and never none."""
LEEWAY_S = 60
MAX_USER = 250
"""Characters of the name of a user, which each page shows."""
Document = Mapping[str, Any]
_log = logging.getLogger(__name__)


class OidcError(Exception):
    """The login fails for a ``reason``; what the browser or the provider sent is in ``detail``."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def fail(reason: str, detail: str = "") -> NoReturn:
    """Raise ``OidcError``."""
    raise OidcError(reason, detail)


class Provider:
    """The provider with one issuer. ``clock`` counts seconds."""

    def __init__(
        self, issuer: str, clock: Callable[[], float] = time.monotonic, timeout: float = TIMEOUT_S
    ) -> None:
        self.issuer = issuer
        self._clock = clock
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._until = -math.inf
        self._known: Document | OidcError = {}
        """The endpoints, or why they could not be fetched, until then."""

    async def discover(self) -> Document:
        """Return the endpoints, which one login fetches for others too; raise ``OidcError``."""
        async with self._lock:
            if self._clock() >= self._until:
                try:
                    self._known, age = await self._fetch(), KEPT_S
                except OidcError as error:
                    _log.warning("OpenID Connect: %s", error)
                    self._known, age = error, RETRY_S
                self._until = self._clock() + age
            if isinstance(self._known, OidcError):
                raise OidcError(self._known.reason, self._known.detail)
            return self._known

    async def _fetch(self) -> Document:
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        metadata = await self._document(url)
        if metadata.get("issuer") != self.issuer:
            named = repr(metadata.get("issuer"))[:200]
            fail(f"the provider calls itself {named}, not {self.issuer!r}")
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        return {name: endpoint_of(metadata, name) for name in names}

    async def ask(self, name: str, fields: Mapping[str, str] | None = None) -> Document:
        """Return the document of an endpoint, such as its keys; raise ``OidcError``."""
        return await self._document((await self.discover())[name], fields)

    async def _document(self, url: str, fields: Mapping[str, str] | None = None) -> Document:
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        method = "GET" if fields is None else "POST"
        try:
            # A redirect could lead to another place or to plain HTTP, so none is followed.
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=True) as client,
                client.request(method, url, data=fields, allow_redirects=False) as reply,
            ):
                if reply.status != HTTPStatus.OK:
                    fail(f"{url} answers {reply.status}")
                document = await reply.json(content_type=None)
        except TimeoutError:
            fail(f"the provider does not answer within {self._timeout:g} s")
        except (aiohttp.ClientError, OSError) as error:
            why = describe_network_error(error.__cause__ or error)
            fail(f"the provider does not answer: {why}")
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            fail(f"{url} answers no JSON object")
        return document


def endpoint_of(metadata: Document, name: str) -> str:
    """Return a URL of the metadata; raise ``OidcError``. With an issuer of HTTPS, it has HTTPS."""
    url = metadata.get(name)
    schemes = ("https://",) if metadata["issuer"].startswith("https:") else ("https://", "http://")
    if not isinstance(url, str) or not url.startswith(schemes):
        fail(f"the provider names no {name} that can be used")
    return url


class OidcLogin:
    """The two requests of a login.

    What the provider's answer has to fit is in a signed cookie meanwhile, so that strangers who
    begin logins fill nothing here.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._provider = Provider("")

    async def begin(self, request: web.Request) -> Response:
        """Send the browser to the provider."""
        table = _table(request)
        try:
            found = await self._provider_of(table).discover()
        except OidcError as error:
            return _refuse(request, error)
        attempt: dict[str, Any] = {
            "state": secrets.token_urlsafe(24),
            "nonce": secrets.token_urlsafe(24),
            "verifier": secrets.token_urlsafe(48),
            "path": path_in(request.query),
            "exp": int(time.time()) + PENDING_S,
        }
        digest = hashlib.sha256(attempt["verifier"].encode()).digest()
        query = {
            "response_type": "code",
            "client_id": table.client_id,
            "redirect_uri": _redirect_uri(request),
            "scope": "openid profile groups",
            "state": attempt["state"],
            "nonce": attempt["nonce"],
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        url = found["authorization_endpoint"]
        location = f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
        response = redirect(location)
        sealed = jwt.encode({"alg": "HS256"}, attempt, OctKey.import_key(self._secret))
        name, secure = _cookie(request), is_secure(request)
        # Lax, because the provider's page leads back here.
        response.set_cookie(name, sealed, secure=secure, httponly=True, samesite="Lax")
        return response

    async def end(self, request: web.Request) -> Response:
        """Log the user in whom the provider names."""
        table, settings = _table(request), console_of(request).config.settings
        try:
            attempt = self._opened(request)
            user, role = await self._verified(request, table, attempt)
        except OidcError as error:
            return _refuse(request, error)
        # A redirect would come from the provider's site, and be sent without a strict cookie.
        page = render(request, "logged_in.html", path=attempt["path"])
        response = start_session(request, page, settings.console, user, role, "oidc")
        response.del_cookie(_cookie(request), secure=is_secure(request))
        return response

    async def _verified(
        self, request: web.Request, table: ConsoleOidcTable, attempt: Document
    ) -> tuple[str, Role]:
        """Return user and role; raise ``OidcError``."""
        code = request.query.get("code", "")
        if not code:
            fail("the provider refused", request.query.get("error", "no code")[:100])
        provider = self._provider_of(table)
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": _redirect_uri(request),
            "client_id": table.client_id,
            "code_verifier": attempt["verifier"],
            **_secret(request, table),
        }
        token = (await provider.ask("token_endpoint", fields)).get("id_token")
        if not isinstance(token, str):
            fail("the provider sent no ID token")
        return identity(token, await provider.ask("jwks_uri"), table, attempt["nonce"])

    def _provider_of(self, table: ConsoleOidcTable) -> Provider:
        if self._provider.issuer != table.issuer:
            self._provider = Provider(table.issuer)
        return self._provider

    def _opened(self, request: web.Request) -> Document:
        """Return the attempt that this browser began; raise ``OidcError``."""
        cookie, key = request.cookies.get(_cookie(request), ""), OctKey.import_key(self._secret)
        try:
            attempt = jwt.decode(cookie, key, ["HS256"]).claims
            jwt.JWTClaimsRegistry(exp={"essential": True}).validate(attempt)
        except (JoseError, ValueError):
            fail("the login took too long, or was begun in another browser")
        state = request.query.get("state", "")
        if not hmac.compare_digest(state.encode(), attempt["state"].encode()):
            fail("the state is not that of this browser")
        return attempt


def identity(token: str, keys: Document, table: ConsoleOidcTable, nonce: str) -> tuple[str, Role]:
    """Return user and role of an ID token that one of the ``keys`` signed; raise ``OidcError``.

    Issuer, audience, nonce and groups are compared exactly.
    """
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
    except (JoseError, ValueError, TypeError, KeyError) as error:
        fail(f"the token is not valid: {type(error).__name__}")
    if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and "azp" not in claims:
        fail("the token is for several clients, and names none that asked")
    if claims.get("azp", table.client_id) != table.client_id:
        fail("the token is for another client")
    user, groups = claims.get(table.user_claim), claims.get(table.groups_claim, [])
    if not isinstance(user, str) or not 0 < len(user) <= MAX_USER:
        fail(f"the token has no text {table.user_claim} of {MAX_USER} characters at most")
    listed = [one for one in groups if isinstance(one, str)] if isinstance(groups, list) else []
    known: Mapping[Any, list[str]] = table.roles
    roles = [one for one in Role if not set(listed).isdisjoint(known.get(one.label, ()))]
    if not roles:
        fail("the user is in no group that has a role", user[:100])
    return user, max(roles)


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


def _refuse(request: web.Request, error: OidcError) -> Response:
    # Refusals of one reason share lines, whatever a stranger sends.
    facts = {"detail": error.detail} if error.detail else {}
    console_of(request).attempts.note(
        error.reason, HTTPStatus.UNAUTHORIZED, peer_of(request), method="oidc", **facts
    )
    text = f"The login by your organisation failed: {error}."
    return form(request, text, HTTPStatus.UNAUTHORIZED)
