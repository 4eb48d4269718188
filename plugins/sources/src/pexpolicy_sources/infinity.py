"""Driver ``infinity``: what the Management API of Pexip Infinity has, and its names of objects."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import orjson
from pydantic import Field, model_validator
from yarl import URL

from pexpolicy import ConfigPath, PluginSettings, Refreshed, Secret, SettingsError, get_logger
from pexpolicy.background.refreshed import CacheFileError
from pexpolicy.config.outgoing import basic, is_encrypted, revealed, tls_context
from pexpolicy.conformance.replies import Reply, client_session, fetch
from pexpolicy.endpoints.object_names import NAMED_OBJECTS, NameList
from pexpolicy.files import CacheFile
from pexpolicy_sources.data_source import QueryError, Row, SourceError, SourceUnavailableError
from pexpolicy_sources.http import Base, ClientCredentials, parsed

RESOURCES = {
    **{kind: field.removesuffix("_name") for field, kind in NAMED_OBJECTS.items()},
    "locations": "system_location",
    "identity_provider_groups": "identity_provider_group",
    "media_playlists": "media_library_playlist",
}
"""The resource of ``configuration`` that has the names of each kind; most fields are named so."""
PAGE = 1000
MAX_BYTES = 32 << 20
"""Size of one page."""
READINGS = 3
"""How often a list is read that changes meanwhile; then all objects that were seen count."""
REQUEST_S = 30.0
"""Seconds for one request; an answer may take more than 10."""
REFRESHED: dict[str, Any] = {"name": "names", "timeout": 300.0, "first": "later", "jitter": 0.2}
"""How the names of all kinds are read."""
FAILURES = 3
"""Failures in a row after which the API is not asked for ``PAUSE_S``, wrong credentials too."""
PAUSE_S = 60.0
WAITS_S = (5.0, 10.0)
"""Seconds before a request is repeated that was one too many, if the API does not say how many."""
MAX_WAIT_S = 60.0
TOKEN_S = 300
"""Life of the assertion that a token is asked for with."""


class InfinitySettings(PluginSettings):
    """``[sources.NAME]`` with ``driver = "infinity"``. Times in seconds."""

    url: Base
    """The Management Node, such as ``https://mgr.example.com``."""
    user: str | None = Field(None, min_length=1, pattern=r"^[^:\x00-\x1f]+$")
    """An account that may read; best one of its own."""
    password: Secret | None = None
    """Its password."""
    client_id: str | None = Field(None, min_length=1)
    """The OAuth 2.0 client in place of an account."""
    client_key: Secret | None = None
    """Its private key, in PEM or as a JSON Web Key."""
    audience: str | None = None
    """The ``aud`` of its tokens, if it is not the name of the Management Node in ``url``."""
    command_user: str | None = Field(None, min_length=1, pattern=r"^[^:\x00-\x1f]+$")
    """Another account, which may run commands: disconnect people, and end conferences."""
    command_password: Secret | None = None
    """Its password."""
    ca_file: ConfigPath | None = None
    """Certificates to trust instead of those of the system."""
    every: float = Field(600.0, ge=1.0)
    """Time between two readings of the names, shortened at random by up to a fifth."""
    cache: ConfigPath | None = None
    """A file that keeps the names, for a start without the API and for ``pexpolicy check``."""
    requests_per_minute: int = Field(600, ge=10, le=900)
    """The most that this server asks of the API, which has 1,000 for all its clients."""

    @model_validator(mode="after")
    def _one_encrypted_way_to_authenticate(self) -> Self:
        given = [n for n in ("user", "password", "client_id", "client_key") if getattr(self, n)]
        if given not in (["user", "password"], ["client_id", "client_key"]):
            ways = "user and password_file, or client_id and client_key_file of an OAuth 2.0 client"
            raise ValueError(f"write {ways}")
        if (self.command_user is None) != (self.command_password is None):
            raise ValueError("command_user and command_password_file go together")
        if not is_encrypted(self.url):
            raise ValueError(f"{self.url} would get credentials unencrypted: write https://")
        return self


def signed_form(settings: InfinitySettings) -> Callable[[], dict[str, str]]:
    """Return what makes the form for a token, with an assertion that the client signs (RFC 7523).

    Raises ``SettingsError``.
    """
    written, client = revealed(settings.client_key), settings.client_id
    claims = {"iss": client, "sub": client, "aud": settings.audience or URL(settings.url).host}

    def form() -> dict[str, str]:
        now = int(time.time())
        more = {"iat": now, "exp": now + TOKEN_S, "jti": str(uuid.uuid4())}
        return {
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": jwt.encode({"alg": "ES256"}, claims | more, key),
            "scope": "is_admin use_api",
        }

    try:
        from joserfc import jwk, jwt  # noqa: PLC0415 - for OAuth only

        key = jwk.ECKey.import_key(orjson.loads(written) if written.startswith("{") else written)
        _ = form()
    except Exception as error:  # noqa: BLE001 - whatever the library raises, and no text of it
        text = "is no key of the curve P-256, in PEM or as a JSON Web Key"
        if isinstance(error, ImportError):
            text = "needs joserfc: pip install 'pexpolicy-sources[oauth]'"
        raise SettingsError(text, key="client_key") from None
    return form


class InfinitySource:
    """The Management API of one platform, which is slow and shared: one request at a time, at most
    ``requests_per_minute``, none while it fails, and never one that a call waits for.
    """

    Settings = InfinitySettings

    def __init__(self, settings: InfinitySettings) -> None:
        self.settings = settings
        self.clock: Callable[[], float] = time.monotonic
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
        self.on_names: list[Callable[[], None]] = []
        self.has_commands = settings.command_user is not None
        """Whether there is an account for commands."""
        self._base = str(URL(settings.url)).rstrip("/")
        self._tls = tls_context(settings.ca_file)
        self._login: ClientCredentials | None = None
        if settings.client_id is not None:
            url, form = f"{self._base}/oauth/token/", signed_form(settings)
            self._login = ClientCredentials(url, form, asyncio.create_task, limit=REQUEST_S)
        self._session: aiohttp.ClientSession | None = None
        self._turn = asyncio.Lock()
        self._sent: deque[float] = deque(maxlen=settings.requests_per_minute)
        self._failures, self._paused_until, self._problem = 0, 0.0, ""
        file = None if settings.cache is None else CacheFile(settings.cache, dict[str, NameList])
        self._names: Refreshed[dict[str, NameList]] = Refreshed(
            self._fetch_names, every=settings.every, key=self._base, file=file, **REFRESHED
        )
        self.problems: dict[str, str] = {}
        """Why names were not read, by resource."""
        self._lists: dict[str, NameList] = {}
        with suppress(CacheFileError):  # reported when it is opened
            kept = None if file is None else file.load(self._names.cache_key)
            self._lists = {} if kept is None else kept[0]

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=1)
        self._session = client_session(connector, aiohttp.ClientTimeout(total=REQUEST_S))
        if self._names.age < float("inf"):  # those of the generation before
            self._lists = self._names.value
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    # ---- the names of objects

    def listed_names(self) -> Mapping[str, NameList]:
        """Return the last lists by kind, those of the cache before the first reading."""
        return self._lists

    async def refresh_names(self) -> None:
        """Read the names now; raises ``SourceError``, and ``TimeoutError``."""
        await self._names.refresh()

    async def _fetch_names(self) -> dict[str, NameList]:
        """Read the names of all kinds; raise ``SourceUnavailableError`` if none can be read."""
        rows, problems = await self.read(RESOURCES.values())
        found, why = dict(self._lists), "" if rows else next(iter(problems.values()))
        for kind, resource in RESOURCES.items():
            written = (row.get("name") for row in rows[resource])
            names = frozenset(name for name in written if name and isinstance(name, str))
            known = found.get(kind)
            if resource not in problems and known and len(names) * 2 < len(known.names):
                problems[resource] = f"the new list has {len(names)} of {len(known.names)} names"
            if resource not in problems:
                found[kind] = NameList(names, time.time())
            elif known:
                found[kind] = known._replace(problem=why or problems[resource])
        if not why and problems.items() - self.problems.items():
            get_logger().warning("names of Infinity are not read", problems=problems)
        self._lists, self.problems = found, problems
        for call in self.on_names.copy():
            await asyncio.to_thread(call)
        if why:
            raise SourceUnavailableError(why)
        return found

    # ---- objects

    async def read(self, resources: Iterable[str]) -> tuple[dict[str, list[Row]], dict[str, str]]:
        """Return the objects of those resources that can be read, and why others cannot."""
        found, problems = defaultdict[str, list[Row]](list), dict[str, str]()
        for resource in resources:
            try:
                found[resource] = await self.objects(resource)
            except SourceError as error:
                problems[resource] = str(error)
        return found, problems

    async def objects(self, resource: str, **filters: str) -> list[Row]:
        """Return all objects of a resource, each once; that of another API than ``configuration``
        is written as ``status/participant``.

        Raises ``QueryError`` if this resource is refused, and ``SourceUnavailableError``.
        """
        api, name = f"configuration/{resource}".split("/")[-2:]
        found, totals = dict[str, Row](), set[int | None]()
        for _ in range(READINGS):
            read = set[int | None]()
            async for total, rows in self._pages(f"/api/admin/{api}/v1/{name}/", filters):
                read.add(total if isinstance(total, int) else None)
                found |= {str(row.get("id") or row.get("resource_uri") or row): row for row in rows}
            if read <= {None, len(found)}:
                return [*found.values()]
            totals |= read
        if len(totals) == 1 and (most := totals.pop() or 0) > len(found):
            raise QueryError(f"{resource} has {most} objects, and only {len(found)} are listed")
        return [*found.values()]

    async def _pages(
        self, path: str, filters: Mapping[str, str]
    ) -> AsyncIterator[tuple[Any, list[Row]]]:
        """Yield the total that each page states, and its objects; raises ``SourceError``."""
        query, asked = urlencode({"limit": PAGE, "offset": 0, **filters}), set[str]()
        while query and query not in asked:
            asked.add(query)
            match await self._get(f"{path}?{query}"):
                case {"meta": {**meta}, "objects": [*rows]} if {*map(type, rows)} <= {dict}:
                    yield meta.get("total_count"), rows
                case _:
                    break
            # Only its query is used: credentials go nowhere else.
            query = str(meta.get("next") or "").partition("?")[2]
        if query:
            raise QueryError(f"{path} is no list of objects, or has no end")

    async def _get(self, target: str) -> Any:
        """Return the JSON of a target; raises ``SourceError``."""
        async with self._turn:
            if self.clock() < self._paused_until:
                raise SourceUnavailableError(f"the API is not asked now: {self._problem}")
            before, self._failures = self._failures, 0
            try:
                return await self._document(target)
            except SourceUnavailableError as error:
                self._failures, self._problem = before + 1, str(error)
                if self._failures >= FAILURES:
                    self._paused_until = self.clock() + PAUSE_S
                raise

    async def _document(self, target: str) -> Any:
        reply, path = await self._send(target), target.partition("?")[0]
        for usual in WAITS_S:
            if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
                await self.sleep(min(reply.retry_after or usual, MAX_WAIT_S))
                reply = await self._send(target)
        text = reply.failure or f"{path} is {reply.line}"
        if reply.status == HTTPStatus.OK and not reply.failure:
            try:
                return parsed(reply.body, MAX_BYTES)
            except ValueError as error:
                text = f"{path} {error} (Content-Type: {reply.media_type})"
        is_of_this = reply.status in (400, 403, 404, 405, 410)
        raise QueryError(text) if is_of_this else SourceUnavailableError(text)

    async def _send(self, target: str, login: str = "", method: str = "GET", **more: Any) -> Reply:
        """Send a request once less than ``requests_per_minute`` were sent in a minute."""
        if self._session is None:
            raise SourceUnavailableError("the source is not open")
        if not login and self._login is not None:
            return await self._login.authorized(self._session, partial(self._send, target))
        login = login or basic(self.settings.user or "", revealed(self.settings.password))
        if len(self._sent) == self._sent.maxlen and (wait := self._sent[0] + 60 - self.clock()) > 0:
            await self.sleep(wait)
        self._sent.append(self.clock())
        more["headers"] = {"Accept": "application/json", "Authorization": login}
        url = URL(self._base + target, encoded=True)
        return await fetch(self._session, method, url, REQUEST_S, MAX_BYTES, **more)

    # ---- commands

    async def command(self, name: str, **body: str) -> str:
        """Run a command of the node, such as ``participant/disconnect``.

        Return ``done``, ``gone`` for what is not there any more, or why it did not run.
        """
        if self._session is None or not self.has_commands:
            return "there is no account for commands: write command_user in [sources.NAME]"
        login = basic(self.settings.command_user or "", revealed(self.settings.command_password))
        path = f"/api/admin/command/v1/{name}/"
        async with self._turn:
            schema = await self._send(f"{path}schema/?format=json", login)
            if schema.status != HTTPStatus.OK:
                return f"this Infinity has no command {name}: {schema.failure or schema.line}"
            reply = await self._send(path, login, "POST", json=body)
        if reply.status == HTTPStatus.NOT_FOUND:
            return "gone"
        is_done = reply.status in range(200, 300)
        return "done" if is_done else f"{name}: {reply.failure or reply.line}"

    async def end_conferences(self, name: str, tag: str) -> list[str]:
        """End the conferences of a name and tag; return of each what ``command`` does.

        Raises ``SourceError`` if they cannot be looked for.
        """
        found = await self.objects("status/conference", name=name)
        ids = [str(one["id"]) for one in found if (one.get("name"), one.get("tag")) == (name, tag)]
        return [await self.command("conference/disconnect", conference_id=one) for one in ids]


def addresses(value: Any) -> set[str]:
    """Return the addresses of objects, or of those that a field names, embedded ones included."""
    found = (one for one in (value if isinstance(value, list) else [value]) if one)
    return {str(one.get("resource_uri") if isinstance(one, Mapping) else one) for one in found}


def with_aliases(rooms: list[Row], listed: list[Row]) -> list[tuple[Row, list[str]]]:
    """Return rooms with their aliases in the list of all."""
    found = defaultdict[str, list[str]](list)
    for one in listed:
        if one.get("alias"):
            found[str(one.get("conference"))].append(str(one["alias"]))
    return [(room, found[str(room.get("resource_uri"))]) for room in rooms]
