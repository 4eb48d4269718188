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
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet, OctKey

from pexpolicy.config.schema.console import ConsoleOidcTable
from pexpolicy.config.secrets import SecretError
from pexpolicy.errors import describe_network_error
from pexpolicy_console.context import Response, console_of, peer_of, redirect, render
from pexpolicy_console.login.pages import form, is_secure, path_in, start_session
from pexpolicy_console.login.sessions import Role, role_of_groups

TIMEOUT_S = 10.0
"""For one reply of the provider."""
KEPT_S = 3600.0
"""Age from which on metadata and keys are fetched again."""
RENEWAL_S = 60.0
"""The same where none of the keys has signed a token: the provider may have new ones."""
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


class UnknownKeyError(OidcError):
    """None of the keys of the provider has signed the token."""


def fail(reason: str, detail: str = "") -> NoReturn:
    """Raise ``OidcError``."""
    raise OidcError(reason, detail)


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
        self._lock = asyncio.Lock()
        self._found: Document | None = None
        self._fetched = self._failed = -math.inf
        self._failure = OidcError("")

    async def discover(self, max_age: float = KEPT_S) -> Document:
        """Return endpoints and ``keys``, ``max_age`` seconds old at most; raise ``OidcError``.

        One login fetches them while others wait for it.
        """
        async with self._lock:
            now = self._clock()
            if self._found is not None and now - self._fetched < max_age:
                return self._found
            if now - self._failed < RETRY_S:
                raise OidcError(self._failure.reason, self._failure.detail)
            try:
                self._found = await self._fetch()
            except OidcError as error:
                self._failed, self._failure = now, error
                _log.warning("OpenID Connect: %s", error)
                raise
            self._fetched = now
            return self._found

    async def _fetch(self) -> Document:
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        metadata = await self._document("GET", url)
        if metadata.get("issuer") != self.issuer:
            named = repr(metadata.get("issuer"))[:200]
            fail(f"the provider calls itself {named}, not {self.issuer!r}")
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        found: dict[str, Any] = {name: endpoint_of(metadata, name) for name in names}
        return {**found, "keys": await self._document("GET", found["jwks_uri"])}

    async def tokens(self, fields: Mapping[str, str]) -> Document:
        """Return the tokens for the code of a login; raise ``OidcError``."""
        found = await self.discover()
        return await self._document("POST", found["token_endpoint"], fields)

    async def _document(
        self, method: str, url: str, fields: Mapping[str, str] | None = None
    ) -> Document:
        timeout = aiohttp.ClientTimeout(total=self._timeout)
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
        reply = await provider.tokens(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": _redirect_uri(request),
                "client_id": table.client_id,
                "code_verifier": attempt["verifier"],
                **_secret(request, table),
            }
        )
        token = reply.get("id_token")
        if not isinstance(token, str):
            fail("the provider sent no ID token")
        return await verified(provider, token, table, attempt["nonce"])

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


async def verified(
    provider: Provider, token: str, table: ConsoleOidcTable, nonce: str
) -> tuple[str, Role]:
    """Return user and role of an ID token, by the keys of the provider; raise ``OidcError``."""
    found = await provider.discover()
    try:
        return identity(token, found["keys"], table, nonce)
    except UnknownKeyError:
        renewed = await provider.discover(RENEWAL_S)
        if renewed is found:
            raise
        return identity(token, renewed["keys"], table, nonce)


def identity(
    token: str, keys: Mapping[str, Any], table: ConsoleOidcTable, nonce: str
) -> tuple[str, Role]:
    """Return user and role of an ID token; raise ``OidcError``, ``UnknownKeyError`` where other
    keys of the provider may fit.

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


def _refuse(request: web.Request, error: OidcError) -> Response:
    # Refusals of one reason share lines, whatever a stranger sends.
    facts = {"detail": error.detail} if error.detail else {}
    console_of(request).attempts.note(
        error.reason, HTTPStatus.UNAUTHORIZED, peer_of(request), method="oidc", **facts
    )
    text = f"The login by your organisation failed: {error}."
    return form(request, text, HTTPStatus.UNAUTHORIZED)
