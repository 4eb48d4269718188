"""Driver ``http``: JSON of a web service, also with tokens for client credentials (OAuth 2.0)."""

from __future__ import annotations

import asyncio
import codecs
import re
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from http import HTTPStatus
from string import Formatter
from typing import Annotated, Any, Self, TypeGuard
from urllib.parse import quote, quote_plus

import aiohttp
import orjson
from pydantic import AfterValidator, Field, model_validator
from typing_extensions import override
from yarl import URL

from pexpolicy import ConfigPath, Secret
from pexpolicy.config.outgoing import is_encrypted, revealed, tls_context, whole_url
from pexpolicy.conformance.replies import Reply, client_session, fetch
from pexpolicy_sources.data_source import (
    Answer,
    DataSource,
    DataSourceSettings,
    QueryError,
    Row,
    SourceError,
    SourceUnavailableError,
    Value,
    joined,
    rows_at,
    text_of,
    unknown_parameter,
)

EARLIER_S = 30.0
"""Seconds before its end at which a token is replaced; half of its life, if that is less."""
DEFAULT_LIFE_S = 300.0
"""Seconds of a token whose life is not stated."""
LIMIT_S = 5.0
"""Seconds for a request; all calls wait for the same one, so a lost one fails them until then."""
MAX_BYTES = 1 << 20
"""Size of a reply; a token has some 2,000 bytes."""
_CODE = re.compile(r"[a-z_]{1,60}").fullmatch
_MARKS = b",[{"
"""Each value in JSON but the first has one before it, or is one."""


def parsed(content: bytes, limit: int) -> Any:
    """Return JSON of a service that may send ``limit`` bytes; raises ``ValueError`` with the rest
    of a sentence.

    All threads wait for the parser, and a list of empty lists takes 30 times its bytes: there may
    be one value for eight of the bytes.
    """
    if len(content) - len(content.translate(None, _MARKS)) > limit // 8:
        raise ValueError(f"has more than {limit // 8:,} values")
    try:
        return orjson.loads(content.removeprefix(codecs.BOM_UTF8))
    except ValueError:
        raise ValueError("is not JSON") from None


Token = str | SourceError


class ClientCredentials:
    """Fetches a token, and keeps it until shortly before its end. Concurrent calls share a request.

    ``form`` makes what is sent with ``headers``, within ``limit`` seconds if not ``LIMIT_S``.
    ``start`` runs the request in a task that outlives the call.
    """

    def __init__(
        self,
        url: str,
        form: Callable[[], Mapping[str, str]],
        start: Callable[[Coroutine[Any, Any, Token]], asyncio.Task[Token]],
        *,
        headers: Mapping[str, str] = {},
        limit: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._form, self._limit = url, form, limit
        self._headers = {"Accept": "application/json", **headers}
        self._start = start
        self._clock = clock
        self._token = ""
        self._valid_until = 0.0
        self._task: asyncio.Task[Token] | None = None

    async def token(self, session: aiohttp.ClientSession) -> str:
        """Return a valid token; raises ``SourceUnavailableError``."""
        if self._token and self._clock() < self._valid_until:
            return self._token
        if self._task is None or self._task.done():
            self._task = self._start(self._fetch(session))
        result = await joined(self._task)
        if isinstance(result, SourceError):
            raise result
        return result

    async def authorized(
        self, session: aiohttp.ClientSession, send: Callable[[str], Awaitable[Reply]]
    ) -> Reply:
        """Send a request with a token, and again with a new one if the service refuses that: it may
        have been revoked before its end.
        """
        reply = Reply(0.0)
        for _ in range(2):
            token = await self.token(session)
            reply = await send(f"Bearer {token}")
            if reply.status != HTTPStatus.UNAUTHORIZED:
                break
            if token == self._token:
                self._token = ""
        return reply

    async def _fetch(self, session: aiohttp.ClientSession) -> Token:
        form = {"grant_type": "client_credentials", **self._form()}
        request: dict[str, Any] = {"data": form, "headers": self._headers}
        limit = self._limit or LIMIT_S
        reply = await fetch(session, "POST", URL(self._url), limit, MAX_BYTES, **request)
        if reply.failure:
            return SourceUnavailableError(f"the token server failed: {reply.failure}")
        status = reply.status
        try:
            answer = parsed(reply.body, MAX_BYTES)
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


_WRITTEN = "/?&=%:@!$'()*+,;~"
"""Characters of the template that stay as they are."""
Parts = tuple[tuple[str, str | None], ...]
"""Encoded text and the name of the parameter after it, if there is one."""


class UrlTemplate:
    """A path and a query, such as ``/rooms/{alias}?expand=1``.

    Values are percent-encoded, so none adds a segment, a parameter or another host. Raises
    ``ValueError`` for a template with other ``parameters``.
    """

    def __init__(self, written: str, parameters: Collection[str]) -> None:
        if not written.startswith("/") or written.startswith("//"):
            raise ValueError("is not a path: write one such as /rooms?alias={alias}")
        if re.search(r"[/=][:$]\w", written):
            raise ValueError("write a parameter in braces, as in {alias}")
        if "#" in written:
            raise ValueError("has a #: a server never gets what follows it")
        path, mark, query = written.partition("?")
        self._segments = [_parts(segment, parameters) for segment in path[1:].split("/")]
        self._mark = mark
        self._query = _parts(query, parameters)
        found = (parts for parts in (*self._segments, self._query))
        self._names = {name for parts in found for _, name in parts if name is not None}

    def fill(self, values: Mapping[str, Value]) -> str | None:
        """Return path and query; ``None`` where a value would make another path of it.

        ``..`` is the folder above, and an empty value the list of all, also in the query where no
        parameter has a value.
        """
        if self._names and all(values[name] in (None, "") for name in self._names):
            return None
        path = ""
        for parts in self._segments:
            segment = _filled(parts, values)
            if any(name is not None for _, name in parts) and segment in ("", ".", ".."):
                return None
            path += f"/{segment}"
        return f"{path}{self._mark}{_filled(self._query, values)}"


def _parts(written: str, parameters: Collection[str]) -> Parts:
    try:
        parsed = list(Formatter().parse(written))
    except ValueError:
        raise ValueError("has a single { or }: write {{ or }} for the character") from None
    for _, name, form, conversion in parsed:
        if name is not None and (name not in parameters or form or conversion):
            raise unknown_parameter("{{{}}}", name, parameters)
    return tuple((quote(text, safe=_WRITTEN), name) for text, name, _, _ in parsed)


def _filled(parts: Parts, values: Mapping[str, Value]) -> str:
    encoded = {name: quote(text_of(value), safe="") for name, value in values.items()}
    return "".join(text + (encoded[name] if name else "") for text, name in parts)


CONNECTIONS = 16
IDLE_S = 30.0
"""Seconds that an unused connection is kept."""
_REFUSALS = frozenset((401, 403, 407, 408, 429))
"""Status codes that say nothing about the query."""


def _web_address(written: str) -> str:
    url = whole_url(written)
    if url.raw_query_string or url.raw_fragment:
        raise ValueError("leave out what begins with ? or #")
    return written


Base = Annotated[str, AfterValidator(_web_address)]


class HttpSettings(DataSourceSettings):
    """``[sources.NAME]`` with ``driver = "http"``."""

    url: Base
    """The beginning of all addresses; a query is appended."""
    rows: str = ""
    """The place of the rows in a reply, such as ``data.items``; empty: the reply itself."""
    token: Secret | None = None
    """A token that is sent as ``Authorization: Bearer``."""
    token_url: Base | None = None
    """Server that issues tokens for client credentials (OAuth 2.0)."""
    client_id: str | None = None
    """The name of this client there."""
    client_secret: Secret | None = None
    """Its secret."""
    scope: str | None = None
    """Scopes of the token, separated by blanks."""
    ca_file: ConfigPath | None = None
    """Certificates to trust instead of those of the system."""
    max_mb: int = Field(32, ge=1, le=1024)
    """Size of a reply in MiB."""

    @model_validator(mode="after")
    def _one_encrypted_way_to_authenticate(self) -> Self:
        has_secret = self.token or self.client_id
        for url in (self.url, self.token_url):
            if has_secret and url is not None and not is_encrypted(url):
                raise ValueError(f"{url} would get credentials unencrypted: write https://")
        given = [one is not None for one in (self.token_url, self.client_id, self.client_secret)]
        if any(given) and not all(given):
            msg = "token_url, client_id and client_secret_env or client_secret_file go together"
            raise ValueError(msg)
        if self.token_url is not None and self.token is not None:
            raise ValueError("write token_url or a token, not both")
        if self.scope is not None and self.token_url is None:
            raise ValueError("scope belongs to token_url")
        return self


class HttpSource(DataSource[HttpSettings, UrlTemplate]):
    """A web service. A query is a path, such as ``/rooms?alias={alias}``."""

    Settings = HttpSettings

    def __init__(self, settings: HttpSettings) -> None:
        super().__init__(settings)
        self._base = str(URL(settings.url)).rstrip("/")
        self._token = revealed(settings.token)
        self._tls = tls_context(settings.ca_file)
        self._login: ClientCredentials | None = None
        if settings.token_url is not None and settings.client_id is not None:
            client = (settings.client_id, revealed(settings.client_secret))
            headers = {"Authorization": aiohttp.encode_basic_auth(*map(quote_plus, client))}
            form, url = {"scope": settings.scope} if settings.scope else {}, settings.token_url
            self._login = ClientCredentials(url, lambda: form, self.start, headers=headers)
        self._session: aiohttp.ClientSession | None = None

    @override
    async def open(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=CONNECTIONS, keepalive_timeout=IDLE_S)
        timeout = aiohttp.ClientTimeout(total=self.settings.snapshot_timeout)
        compressed = {"auto_decompress": True, "skip_auto_headers": ()}
        self._session = client_session(connector, timeout, **compressed)

    @override
    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @override
    def prepare(self, query: str, parameters: Collection[str]) -> UrlTemplate:
        return UrlTemplate(query, parameters)

    @override
    async def fetch(
        self, query: UrlTemplate, parameters: Mapping[str, Value], previous: Answer | None
    ) -> Answer:
        address = query.fill(parameters)
        answer = None if address is None else await self._get(address, previous)
        return Answer(()) if answer is None else answer

    @override
    async def fetch_all(self, query: UrlTemplate, previous: Answer | None) -> Answer:
        answer = await self._get(query.fill({}) or "", previous)
        if answer is None:
            raise QueryError("the reply is HTTP 404: there is nothing at this path")
        return answer

    async def _get(self, address: str, previous: Answer | None) -> Answer | None:
        """Return the reply; ``None`` for one that says that there is nothing."""
        session, settings = self._session, self.settings
        if session is None:
            raise SourceUnavailableError("the source is not open")
        headers = {"Accept": "application/json"}
        if previous is not None and previous.etag:
            headers["If-None-Match"] = previous.etag
        url = URL(self._base + address, encoded=True)
        limit, most = settings.snapshot_timeout, settings.max_mb << 20

        async def send(authorization: str) -> Reply:
            own = headers | ({"Authorization": authorization} if authorization else {})
            return await fetch(session, "GET", url, limit, most, headers=own)

        if self._login is not None:
            reply = await self._login.authorized(session, send)
        else:
            reply = await send(self._token and f"Bearer {self._token}")
        status = reply.status
        if str(most) in reply.failure:
            raise QueryError(f"{reply.failure}: max_mb")
        if reply.failure:
            raise SourceUnavailableError(reply.failure)
        if status == HTTPStatus.NOT_MODIFIED and previous is not None:
            return previous
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.NO_CONTENT):
            return None if status == HTTPStatus.NOT_FOUND else Answer(())
        if status != HTTPStatus.OK:
            is_down = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _REFUSALS
            raise (SourceUnavailableError if is_down else QueryError)(f"the reply is {reply.line}")
        # One that cannot be sent would make each later request fail.
        tag = reply.headers.get("ETag", "")
        return Answer(self._rows(reply.body), tag if is_header(tag) else "")

    def _rows(self, content: bytes) -> list[Row]:
        try:
            value = parsed(content, self.settings.max_mb << 20)
        except ValueError as error:
            raise QueryError(f"the reply {error}") from None
        try:
            return rows_at(value, self.settings.rows)
        except ValueError as error:
            raise QueryError(f"the reply has another form than rows says: {error}") from None
