"""OAuth 2.0 client credentials: tokens for an HTTP service."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeGuard
from urllib.parse import quote_plus

import aiohttp
import orjson
from yarl import URL

from pexpolicy.conformance.replies import fetch
from pexpolicy_sources.rows import SourceUnavailableError

EARLIER_S = 30.0
"""Seconds before its end at which a token is replaced; half of its life, if that is less."""
DEFAULT_LIFE_S = 300.0
"""Seconds of a token whose life is not stated."""
LIMIT_S = 5.0
"""Seconds for a request; all calls wait for the same one, so a lost one fails them until then."""
MAX_BYTES = 1 << 20
"""Size of a reply; a token has some 2,000 bytes."""
_CODE = re.compile(r"[a-z_]{1,60}").fullmatch


Reply = str | SourceUnavailableError


class ClientCredentials:
    """Fetches a token, and keeps it until shortly before its end. Concurrent calls share a request.

    ``start`` runs the request in a task that outlives the call.
    """

    def __init__(
        self,
        url: str,
        client: tuple[str, str],
        scope: str | None,
        start: Callable[[Coroutine[Any, Any, Reply]], asyncio.Task[Reply]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        user, secret = (quote_plus(part) for part in client)
        self._login = aiohttp.encode_basic_auth(user, secret)
        self._form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}
        self._start = start
        self._clock = clock
        self._token = ""
        self._valid_until = 0.0
        self._task: asyncio.Task[Reply] | None = None

    async def token(self, session: aiohttp.ClientSession) -> str:
        """Return a valid token; raises ``SourceUnavailableError``."""
        if self._token and self._clock() < self._valid_until:
            return self._token
        if self._task is None or self._task.done():
            self._task = self._start(self._fetch(session))
        task = self._task
        await asyncio.wait((task,))
        if task.cancelled():
            raise SourceUnavailableError("the source was closed")
        if isinstance(result := task.result(), str):
            return result
        raise SourceUnavailableError(str(result))

    def forget(self, token: str) -> None:
        """Fetch a new token at the next call: the service refused this one."""
        if token == self._token:
            self._token = ""

    async def _fetch(self, session: aiohttp.ClientSession) -> Reply:
        headers = {"Accept": "application/json", "Authorization": self._login}
        reply = await fetch(
            session, "POST", URL(self._url), LIMIT_S, MAX_BYTES, data=self._form, headers=headers
        )
        if reply.failure:
            return SourceUnavailableError(f"the token server failed: {reply.failure}")
        status = reply.status
        try:
            answer = orjson.loads(reply.body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            return SourceUnavailableError(f"the token server replied HTTP {status} without JSON")
        token, life = answer.get("access_token"), answer.get("expires_in", DEFAULT_LIFE_S)
        if status != 200 or not is_header(token):  # noqa: PLR2004
            code = str(answer.get("error"))
            text = f": {code}" if _CODE(code) else ""
            return SourceUnavailableError(f"the token server replied HTTP {status}{text}")
        seconds = float(life) if isinstance(life, int | float) else DEFAULT_LIFE_S
        self._token = token
        self._valid_until = self._clock() + max(seconds - EARLIER_S, seconds / 2)
        return token


def is_header(text: object) -> TypeGuard[str]:
    """Return whether a text can be sent: others are an error of the client at each request."""
    return isinstance(text, str) and text != "" and text.isascii() and text.isprintable()
