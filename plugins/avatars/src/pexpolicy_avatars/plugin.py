"""Plugin class of ``avatars``: finds the picture of an alias, and renders it once for each size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TypeVar

from typing_extensions import override

from pexpolicy import (
    Alias,
    Avatar,
    ConfigWarning,
    ParticipantAvatarRequest,
    Plugin,
    Problem,
    SettingsError,
    metrics,
)
from pexpolicy.config.files import missing_hint
from pexpolicy.config.outgoing import is_encrypted
from pexpolicy_avatars.cache import Cache, Entry, SingleFlight
from pexpolicy_avatars.initials import Initials
from pexpolicy_avatars.settings import AvatarsSettings, Template
from pexpolicy_avatars.sources import (
    Folder,
    Graph,
    PictureSource,
    RowPictures,
    WebServer,
    ignores_the_host,
)

S = TypeVar("S")
T = TypeVar("T")
Key = tuple[object, ...]
LOOKUPS = metrics.counter("lookups_total", "Pictures that were asked for.", ["result"])


class Avatars(Plugin[AvatarsSettings]):
    """Answers with pictures of people, from a folder, LDAP, a web server or Microsoft Graph."""

    def __init__(
        self, settings: AvatarsSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(settings)
        self._clock = clock
        self._sources, self._initials = _built(settings)
        self._domains = frozenset(domain.lower().lstrip("@") for domain in settings.domains)
        half = settings.cache_mb << 19
        self._pictures: Cache[Alias, Avatar | None] = Cache(settings.max_age, half, clock)
        self._renderings: Cache[Key, Avatar | None] = Cache(settings.max_age, half, clock)
        self._fetches: SingleFlight[Alias, Entry[Avatar | None]] = SingleFlight()
        self._drawings: SingleFlight[Key, Entry[Avatar | None]] = SingleFlight()
        self._thread: ThreadPoolExecutor

    @override
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the sources."""
        # Pictures are decoded one at a time: each takes memory and processor time.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="avatars-image")
        async with AsyncExitStack() as stack:
            stack.callback(self._thread.shutdown, wait=False, cancel_futures=True)
            for source in self._sources:
                await stack.enter_async_context(source.opened())
            stack.push_async_callback(self._drawings.close)
            stack.push_async_callback(self._fetches.close)
            yield

    @override
    async def participant_avatar(self, request: ParticipantAvatarRequest) -> Avatar | None:
        """Return the picture of the alias, or its initials."""
        alias = request.alias
        if not alias:
            return None
        size = (request.width, request.height)
        found = self._renderings.get((alias, *size))
        result = "cached"
        if found is None and self._is_ours(request):
            picture = self._pictures.get(alias)
            if picture is None:
                picture = await self._fetches.run(alias, partial(self._fetch, request))
            if picture.value is not None:
                make = partial(picture.value.resized, *size)
                found = await self._rendered((alias, *size), picture.at, make)
                result = "found"
        if found is None and self._initials is not None:
            letters = self._initials.letters(request.remote_display_name, alias)
            key = (letters, self._initials.color(alias), *size)
            found = self._renderings.get(key)
            if found is None:
                draw = partial(self._initials.draw, *key)
                found = await self._rendered(key, self._clock(), draw)
            result = "initials"
        if found is None or found.value is None:
            LOOKUPS.inc(result="none")
            return None
        LOOKUPS.inc(result=result)
        request.annotate(age_s=round(self._clock() - found.at))
        return found.value

    def _is_ours(self, request: ParticipantAvatarRequest) -> bool:
        alias = request.alias
        is_ours = not self._domains or alias.bare or alias.host in self._domains
        if not is_ours and request.notes is not None:
            request.notes.append(f"{alias.host} is not among domains")
        return is_ours

    async def _fetch(self, request: ParticipantAvatarRequest) -> Entry[Avatar | None]:
        """Return the picture from the first source that has one; its absence is kept too."""
        alias, notes = request.alias, request.notes
        at = self._clock()
        picture: Avatar | None = None
        for source in self._sources:
            image = await source.fetch(alias)
            if notes is not None:
                had = (
                    "has no picture" if image is None else f"has a picture of {len(image):,} bytes"
                )
                notes.append(f"{source.name} {had}")
            if image is not None:
                picture = Avatar(image, reason=f"a picture from {source.name}")
                break
        entry = Entry(picture, at)
        self._pictures.put(alias, entry, 0 if picture is None else len(picture.image))
        return entry

    async def _rendered(
        self, key: Key, at: float, make: Callable[[], Avatar | None]
    ) -> Entry[Avatar | None]:
        """Return what ``make`` returns in a thread; raises its errors, which are not kept."""

        async def render() -> Entry[Avatar | None]:
            loop = asyncio.get_running_loop()
            entry = Entry(await loop.run_in_executor(self._thread, make), at)
            self._renderings.put(key, entry, len(entry.value.image) if entry.value else 0)
            return entry

        return await self._drawings.run(key, render)

    @override
    async def status(self) -> Mapping[str, object]:
        """Return what is cached and fetched in this process."""
        return {
            "sources": [source.name for source in self._sources],
            "pictures": len(self._pictures),
            "renderings": len(self._renderings),
            "cache_bytes": self._pictures.used + self._renderings.used,
            "fetching": len(self._fetches),
        }

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Warn of pictures that people of other domains get, and of readable passwords."""
        folder = self.settings.folder
        if folder is not None and not folder.is_dir():
            hint = missing_hint(folder) or "; no picture is found until it is there"
            text = f"there is no folder {folder}{hint}"
            if folder.is_file():
                text = f"{folder} is a file: name the folder that it is in"
            yield ConfigWarning(("folder",), text)
        yield from _warnings(self.settings)


def _built(settings: AvatarsSettings) -> tuple[tuple[PictureSource, ...], Initials | None]:
    """Return the sources in the order in which they are asked; raises ``SettingsError``."""
    problems: list[Problem] = []

    def build(key: str, make: Callable[[S], T], table: S | None) -> list[T]:
        try:
            return [] if table is None else [make(table)]
        except SettingsError as error:
            problems.extend(
                Problem((key, *problem.key), problem.text) for problem in error.problems
            )
            return []

    sources: list[PictureSource] = []
    if settings.folder is not None:
        sources.append(Folder(settings.folder, [Template(text) for text in settings.files]))
    if settings.source is not None and settings.query is not None:
        try:
            sources.append(RowPictures(settings.source, settings.query))
        except SettingsError as error:
            problems += error.problems
    sources += build("http", WebServer, settings.http)
    sources += build("graph", Graph, settings.graph)
    initials = build("initials", Initials, settings.initials)
    if problems:
        raise SettingsError(problems=problems)
    return tuple(sources), initials[0] if initials else None


def _warnings(settings: AvatarsSettings) -> Iterable[ConfigWarning]:
    written: list[tuple[tuple[str | int, ...], str]] = []
    if settings.folder is not None:
        written += [(("files",), text) for text in settings.files]
    if settings.http is not None:
        written.append((("http", "url"), settings.http.url))
    if settings.graph is not None:
        written.append((("graph", "user"), settings.graph.user))
    loose = [(key, text) for key, text in written if Template(text).ignores_the_host]
    if settings.query is not None and ignores_the_host(settings.query):
        loose.append((("query",), settings.query))
    for key, text in loose[: not settings.domains]:
        says = f"{text} gives a caller of any domain the picture of that user: write domains"
        yield ConfigWarning(key, says)
    http, graph = settings.http, settings.graph
    sent: list[tuple[tuple[str, ...], str]] = []
    if http is not None and (http.user or http.token_env or http.token_file):
        sent.append((("http", "url"), http.url))
    if graph is not None:
        sent += [(("graph", "authority"), graph.authority), (("graph", "endpoint"), graph.endpoint)]
    for place, url in sent:
        if not is_encrypted(url):
            yield ConfigWarning(place, "the credentials are sent unencrypted: write https://")
