"""Pictures from Microsoft Graph, with the token of an application."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

from yarl import URL

from pexpolicy import Alias
from pexpolicy.config.outgoing import secret, tls_context
from pexpolicy.conformance.replies import Reply
from pexpolicy_avatars.cache import SingleFlight
from pexpolicy_avatars.settings import GraphSettings, Template
from pexpolicy_avatars.sources import HttpClient, PictureError, quoted

RENEWED_BEFORE_S = 300.0
"""Seconds before the expiry of a token, half of its time at most, when it is renewed."""
MAX_RETRY_AFTER_S = 300.0
"""Longest ``Retry-After`` that is respected."""
_CODE = re.compile(r"AADSTS\d+")
_NAME = re.compile(r"[A-Za-z_]{1,60}").fullmatch


class Token(NamedTuple):
    """A token, and the monotonic times when it is renewed and when it expires."""

    value: str
    renew_at: float
    expires_at: float


class Graph:
    """Fetches the photos of users; raises ``SettingsError`` for the secret and certificates."""

    name = "graph"

    def __init__(
        self, settings: GraphSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._client = HttpClient(settings.timeout, tls_context(settings.ca_file))
        self._name = Template(settings.user)
        self._by_mail = settings.match == "mail"
        self._users = f"{settings.endpoint.rstrip('/')}/users"
        authority = settings.authority.rstrip("/")
        self._token_url = URL(f"{authority}/{quoted(settings.tenant)}/oauth2/v2.0/token")
        self._form = {
            "grant_type": "client_credentials",
            "client_id": settings.client_id,
            "client_secret": secret("secret", settings.secret_env, settings.secret_file),
            "scope": f"{URL(settings.endpoint).origin()}/.default",
        }
        self._token: Token | None = None
        self._requests: SingleFlight[str, Token] = SingleFlight()
        self._paused_until = -math.inf

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the session."""
        async with self._client.opened():
            try:
                yield
            finally:
                await self._requests.close()

    async def fetch(self, alias: Alias) -> bytes | None:
        """Return the photo of a user, ``None`` without one; raises ``PictureError``."""
        user = await self._user(alias)
        if user is None:
            return None
        answer = await self._get(URL(f"{self._users}/{user}/photo/$value", encoded=True))
        return None if answer is None else answer.body

    async def _user(self, alias: Alias) -> str | None:
        """Return what names a user in a path, ``None`` if there is no such user."""
        if not self._by_mail:
            return self._name.fill(alias, quoted)
        mail = self._name.fill(alias, _odata_quoted)
        if mail is None:
            return None
        condition = f"mail eq '{mail}'"
        query = f"$filter={quoted(condition)}&$select=id&$top=2"
        answer = await self._get(URL(f"{self._users}?{query}", encoded=True))
        match [] if answer is None else _json(answer).get("value"):
            case []:
                return None
            case [{"id": str(user)}]:
                return quoted(user)
            case _:
                raise PictureError("Graph has no single user with this mail address")

    async def _get(self, url: URL) -> Reply | None:
        """Return the reply, ``None`` for status 404; raises ``PictureError``."""
        pause = self._paused_until - self._clock()
        if pause > 0:
            raise PictureError(f"Graph wants no requests for {math.ceil(pause)} s")
        token = await self._valid_token()
        answer = await self._ask(url, token)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            # It was revoked, or the clock of this machine went differently.
            if self._token is token:
                self._token = None
            answer = await self._ask(url, await self._valid_token())
        if answer.status == HTTPStatus.OK:
            return answer
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        raise PictureError(f"{url.host}: {answer.line}{_code(answer)}")

    async def _ask(self, url: URL, token: Token) -> Reply:
        headers = {"Authorization": f"Bearer {token.value}"}
        answer = await self._client.ask("GET", url, headers=headers)
        if answer.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            text = answer.headers.get("Retry-After", "").strip()
            if text.isascii() and text.isdigit():
                self._paused_until = self._clock() + min(float(text), MAX_RETRY_AFTER_S)
        return answer

    async def _valid_token(self) -> Token:
        """Return a token; one request serves all calls that wait for it.

        Nothing waits for the renewal of a token that is still valid.
        """
        token = self._token
        now = self._clock()
        if token is None or now >= token.expires_at:
            return await self._requests.run("token", self._new_token)
        if now >= token.renew_at:
            _ = self._requests.start("token", self._new_token)
        return token

    async def _new_token(self) -> Token:
        asked = self._clock()
        answer = await self._client.ask("POST", self._token_url, data=self._form)
        found = _json(answer)
        if answer.status != HTTPStatus.OK:
            raise PictureError(f"{self._token_url.host}: {answer.line}{_code(answer)}")
        try:
            value, seconds = found["access_token"], float(found["expires_in"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise PictureError(f"{self._token_url.host}: the reply has no token") from None
        if not (_is_header(value) and 0 < seconds < math.inf):
            raise PictureError(f"{self._token_url.host}: the reply has no token")
        renew_at = asked + seconds - min(RENEWED_BEFORE_S, seconds / 2)
        self._token = Token(value, renew_at, asked + seconds)
        return self._token


def _odata_quoted(text: str) -> str:
    """Return a text as it is written between quotes in a filter."""
    return text.replace("'", "''")


def _is_header(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _json(answer: Reply) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _code(answer: Reply) -> str:
    """Return the code of an error of Graph, or of its login server; not the text, which is long."""
    found = _json(answer)
    error = found.get("error")
    code = error.get("code") if isinstance(error, dict) else error
    number = _CODE.search(str(found.get("error_description", "")))
    known = code if isinstance(code, str) and _NAME(code) else ""  # others may be what was sent
    parts = [text for text in (known, number and number[0]) if text]
    return f" ({', '.join(parts)})" if parts else ""
