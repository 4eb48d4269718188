"""Pictures from a web server, by a template of their URLs."""

from __future__ import annotations

import base64
from contextlib import AbstractAsyncContextManager
from functools import partial
from http import HTTPStatus
from urllib.parse import quote

from yarl import URL

from pexpolicy import Alias
from pexpolicy.config.outgoing import secret, tls_context
from pexpolicy_avatars.http_client import HttpClient
from pexpolicy_avatars.settings import HttpSettings
from pexpolicy_avatars.source import PictureError
from pexpolicy_avatars.template import Template

NO_PICTURE = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
quoted = partial(quote, safe="")
"""Quotes a part of an alias as one segment of a path, or one value of a query."""


class WebServer:
    """Fetches pictures; raises ``SettingsError`` for secrets and certificates."""

    name = "http"

    def __init__(self, settings: HttpSettings) -> None:
        self._url = Template(settings.url)
        self._client = HttpClient(settings.timeout, tls_context(settings.ca_file))
        self._headers = {"Accept": "image/*"}
        password = secret("password", settings.password_env, settings.password_file)
        token = secret("token", settings.token_env, settings.token_file)
        if settings.user is not None:
            pair = base64.b64encode(f"{settings.user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"
        elif token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Open the session."""
        return self._client.opened()

    async def fetch(self, alias: Alias) -> bytes | None:
        """Return the picture of an alias, ``None`` without one; raises ``PictureError``."""
        filled = self._url.fill(alias, quoted)
        if filled is None:
            return None
        url = URL(filled, encoded=True)
        answer = await self._client.ask("GET", url, headers=self._headers)
        if answer.status == HTTPStatus.OK:
            return answer.body
        if answer.status in NO_PICTURE:
            return None
        raise PictureError(f"{url.host}: {answer.line}")
