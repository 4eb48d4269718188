"""Login by OpenID Connect: authorization code with PKCE, state and nonce."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from aiohttp import hdrs, web

from pexpolicy.cli.for_console import origin
from pexpolicy.config.schema.console import ConsoleOidcTable
from pexpolicy.config.secrets import SecretError
from pexpolicy_console.context import console_of, peer_of
from pexpolicy_console.login.cookies import is_secure
from pexpolicy_console.login.pages import form, path_in, start_session
from pexpolicy_console.login.provider import RENEWAL_S, OidcError, Provider, fail
from pexpolicy_console.pages.page import render
from pexpolicy_console.roles import Role, role_of_groups

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
