"""Sources of pictures, with the cache of what they have and the sharing of fetches."""

from __future__ import annotations

import asyncio
import binascii
import json
import math
import os
import re
import ssl
import stat
import time
import unicodedata
from collections import OrderedDict
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Hashable,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from pexpolicy import Alias, SettingsError, get_logger
from pexpolicy.config.outgoing import tls_context
from pexpolicy.conformance.replies import Reply, client_session, fetch
from pexpolicy.rows import RowSource
from pexpolicy_avatars.settings import (
    MAX_LENGTH,
    PLACEHOLDERS,
    GraphSettings,
    Template,
    WebSettings,
)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
OVERHEAD = 512
"""Bytes that an entry takes in addition to its value."""
MAX_FETCHES = 100
"""Fetches at once; further ones fail, so that a frozen server does not fill the memory."""


class Entry(NamedTuple, Generic[V]):
    """A value, and the monotonic time in seconds when its fetch began."""

    value: V
    at: float


class Cache(Generic[K, V]):
    """The entries that were used last, none older than ``max_age`` seconds.

    They take ``max_bytes`` together at most.
    """

    def __init__(
        self, max_age: float, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[K, tuple[Entry[V], int]] = OrderedDict()
        self.used = 0
        """Bytes of all entries."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> Entry[V] | None:
        """Return the entry of a key, ``None`` if there is none or it is too old."""
        found = self._entries.get(key)
        if found is None:
            return None
        if self._clock() - found[0].at > self._max_age:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return found[0]

    def put(self, key: K, entry: Entry[V], size: int) -> None:
        """Keep an entry with a value of ``size`` bytes, and remove those that were not used."""
        self._remove(key)
        self._entries[key] = (entry, size + OVERHEAD)
        self.used += size + OVERHEAD
        while self.used > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: K) -> None:
        removed = self._entries.pop(key, None)
        if removed is not None:
            self.used -= removed[1]


class OverloadError(Exception):
    """Too many fetches are in progress."""


class SingleFlight(Generic[K, V]):
    """Fetches, one at a time for each key: callers that ask meanwhile get its result, or error.

    A fetch goes on if its callers are cancelled, so the result of a slow one serves later calls.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(self, key: K, fetch: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return the result of the fetch for a key; raises ``OverloadError``, and its errors."""
        return await asyncio.shield(self.start(key, fetch))

    def start(self, key: K, fetch: Callable[[], Coroutine[Any, Any, V]]) -> asyncio.Task[V]:
        """Return the task of the fetch for a key, without waiting; raises ``OverloadError``."""
        task = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= MAX_FETCHES:
                raise OverloadError(f"{MAX_FETCHES} pictures are being fetched already")
            task = self._tasks[key] = asyncio.create_task(fetch())
            task.add_done_callback(partial(self._end, key))
        return task

    async def close(self) -> None:
        """Cancel what is in progress."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, key: K, task: asyncio.Task[V]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # retrieved here, as its callers may be gone


MAX_BYTES = 10 * 1024 * 1024
"""Bytes of a picture; larger ones are refused before they are in memory."""


class PictureError(Exception):
    """A source has no answer: it failed, or what it has cannot be used."""


class PictureSource(Protocol):
    """Finds the pictures of people."""

    @property
    def name(self) -> str:
        """The name of the source in the reason of a decision and in metrics."""

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Open what the source needs."""

    async def fetch(self, alias: Alias) -> bytes | None:
        """Return the picture of an alias, ``None`` without one; raises ``PictureError``."""


THREADS = 2
SETTLED_NS = 2_000_000_000
"""A folder that changed more recently than this before it was listed is listed again: a later
change may have the same timestamp.
"""
log = get_logger(__name__)


class Folder:
    """Reads pictures. An alias selects one of the names that the folder has; no path is made of it.

    Links that lead out of the folder are not followed.
    """

    name = "folder"

    def __init__(self, folder: Path, files: Sequence[Template]) -> None:
        self._folder = folder
        self._files = tuple(files)
        self._lock = Lock()
        self._listed: Mapping[str, str] = {}
        self._changed_ns = -1
        self._threads: ThreadPoolExecutor

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Start the threads that read."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="avatars-folder")
        try:
            if not await asyncio.get_running_loop().run_in_executor(
                self._threads, self._folder.is_dir
            ):
                log.warning("there is no folder of pictures yet", folder=str(self._folder))
            yield
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def fetch(self, alias: Alias) -> bytes | None:
        """Return the picture of an alias, ``None`` without one; raises ``PictureError``."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.read, alias)

    def read(self, alias: Alias) -> bytes | None:
        """Read the picture of an alias; otherwise like ``fetch``, and blocks."""
        try:
            names = self._names()
            wanted = (template.fill(alias) for template in self._files)
            found = (names.get(_normal(name)) for name in wanted if name is not None)
            name = next(filter(None, found), None)
            return None if name is None else _content(self._folder, name)
        except OSError as error:
            raise PictureError(f"{self._folder} cannot be read: {error.strerror}") from None

    def _names(self) -> Mapping[str, str]:
        with self._lock:
            changed = self._folder.stat().st_mtime_ns
            if changed != self._changed_ns:
                is_settled = time.time_ns() - changed > SETTLED_NS
                self._changed_ns = changed if is_settled else -1
                names = sorted(os.listdir(self._folder))  # noqa: PTH208 - names, not paths
                self._listed = {_normal(name): name for name in names if name[0] != "."}
            return self._listed


def _normal(name: str) -> str:
    """Return a name in lower case; macOS stores accents as characters of their own."""
    return unicodedata.normalize("NFC", name.lower())


def _content(folder: Path, name: str) -> bytes | None:
    """Return the content of a file in a folder, ``None`` if it is gone.

    No error names the file, which has the name of a person.
    """
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))  # noqa: PTH118 - Path has no realpath
    if os.path.commonpath((root, path)) != root:
        raise PictureError("the file is a link that leads out of the folder")
    try:
        # Opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PictureError("it is not a regular file")
        if status.st_size > MAX_BYTES:
            text = f"the file has {status.st_size:,} bytes, and {MAX_BYTES:,} are the limit"
            raise PictureError(text)
        return file.read(MAX_BYTES)


MAX_BASE64 = MAX_BYTES // 3 * 4 + 1024
"""Characters of a picture; a few line breaks are among them."""

BEGINNINGS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM")
"""Of a JPEG, PNG, GIF, WebP and BMP."""


class RowPictures:
    """Asks a source for the row of a person; raises ``SettingsError`` for the query.

    The first column with a value is the picture, in Base64.
    """

    name = "source"

    def __init__(self, source: RowSource, query: str) -> None:
        try:
            # Pictures are large, and the plugin keeps them itself.
            self._people = source.lookup(query, PLACEHOLDERS, entries=0)
        except ValueError as error:
            raise SettingsError(str(error), key="query") from None

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Do nothing: the server opens the source."""
        return nullcontext()

    async def fetch(self, alias: Alias) -> bytes | None:
        """Return the picture of an alias, ``None`` without one; raises ``PictureError``."""
        if len(alias) > MAX_LENGTH:
            return None
        found = await self._people.ask(alias=alias, user=alias.user, host=alias.host)
        if len(found.rows) > 1:
            raise PictureError(f"{len(found.rows)} people have this alias")
        written = _first(found.rows[0]) if found.rows else None
        if written is None:
            return None
        if isinstance(written, str) and len(written) > MAX_BASE64:
            raise PictureError(f"the picture has more than {MAX_BYTES:,} bytes")
        try:
            image = await asyncio.to_thread(binascii.a2b_base64, written)
        except (TypeError, ValueError):
            image = b""
        if not image.startswith(BEGINNINGS):
            # Its content may be anything, such as a password, and is in no message.
            raise PictureError("the first column with a value is no picture in Base64")
        return image


def ignores_the_host(query: str) -> bool:
    """Return whether people of different domains get the same picture."""
    names = set(re.findall(r"[{:](\w+)", query))
    return "user" in names and not names & {"alias", "host"}


def _first(row: Mapping[str, Any]) -> Any:
    """Return the first value of a row, and of several values the first."""
    value = next((value for value in row.values() if value not in (None, "", [])), None)
    return value[0] if isinstance(value, list) else value


CONNECTIONS = 20
IDLE_S = 30.0
"""Seconds that an unused connection is kept."""


class HttpClient:
    """A session with its own connections. It uses no proxy, cookies, redirects or compression."""

    def __init__(self, timeout: float, tls: ssl.SSLContext) -> None:
        self._timeout = timeout
        self._tls = tls
        self._session: aiohttp.ClientSession

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the session."""
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._tls, keepalive_timeout=IDLE_S)
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with client_session(connector, timeout) as self._session:
            yield

    async def ask(self, method: str, url: URL, **options: Any) -> Reply:
        """Return the reply to a request; raises ``PictureError`` if there is none in time."""
        reply = await fetch(self._session, method, url, self._timeout, MAX_BYTES, **options)
        if reply.failure:
            raise PictureError(f"{url.host}: {reply.failure}")
        return reply


NO_PICTURE = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
quoted = partial(quote, safe="")
"""Quotes a part of an alias as one segment of a path, or one value of a query."""


class WebServer:
    """Fetches pictures; raises ``SettingsError`` for certificates."""

    name = "http"

    def __init__(self, settings: WebSettings) -> None:
        self._url = Template(settings.url)
        self._client = HttpClient(settings.timeout, settings.tls())
        self._headers = {"Accept": "image/*", **settings.authorization()}

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


RENEWED_BEFORE_S = 300.0
"""Seconds before the expiry of a token, half of its time at most, when it is renewed."""
_CODE = re.compile(r"AADSTS\d+")
_NAME = re.compile(r"[A-Za-z_]{1,60}").fullmatch


class Token(NamedTuple):
    """A token, and the monotonic times when it is renewed and when it expires."""

    value: str
    renew_at: float
    expires_at: float


class Graph:
    """Fetches the photos of users; raises ``SettingsError`` for certificates."""

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
            "client_secret": settings.secret.get_secret_value(),
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
        mail = self._name.fill(alias, lambda text: text.replace("'", "''"))
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
            self._paused_until = max(self._paused_until, self._clock() + answer.retry_after)
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
            if not (value.isascii() and value.isprintable() and 0 < seconds < math.inf):
                raise ValueError  # noqa: TRY301 - as one that is no number
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            raise PictureError(f"{self._token_url.host}: the reply has no token") from None
        renew_at = asked + seconds - min(RENEWED_BEFORE_S, seconds / 2)
        self._token = Token(value, renew_at, asked + seconds)
        return self._token


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
    text = ", ".join(filter(None, (known, number and number[0])))
    return f" ({text})" if text else ""
