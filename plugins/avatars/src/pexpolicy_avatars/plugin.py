"""Plugin class of ``avatars``: finds the picture of an alias, or draws initials, once a size."""

from __future__ import annotations

import asyncio
import io
import re
import time
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from zlib import crc32

from typing_extensions import override

from pexpolicy import (
    Alias,
    Avatar,
    ConfigWarning,
    Key,
    ParticipantAvatarRequest,
    Plugin,
    Problem,
    SettingsError,
    metrics,
)
from pexpolicy.config.files import missing_hint
from pexpolicy.config.outgoing import is_encrypted
from pexpolicy.files import read_file, track_file
from pexpolicy_avatars.settings import AvatarsSettings, InitialsSettings, Template
from pexpolicy_avatars.sources import (
    Cache,
    Entry,
    Folder,
    Graph,
    PictureSource,
    RowPictures,
    SingleFlight,
    WebServer,
    ignores_the_host,
)

SIDE = 100
"""Pixels of a side that the request does not have."""
MAX_SIDE = 2048
HEIGHT = 0.42
"""Height of the letters, as a part of the shorter side."""
REASON = "initials"
_WORDS = re.compile(r"[^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W\d_]+)*")
_MISSING = "\U0010fffd"
"""A character that no font has."""


class Initials:
    """Draws initials; raises ``SettingsError`` for a font or colour that cannot be used."""

    def __init__(self, settings: InitialsSettings) -> None:
        from PIL import ImageColor, ImageFont  # noqa: PLC0415 - 40 ms of import

        problems = []
        self._colors: list[tuple[int, ...]] = []
        for number, color in enumerate(settings.colors):
            try:
                self._colors.append(ImageColor.getrgb(color)[:3])
            except ValueError:
                text = f"{color!r} is no colour: write one such as #1f6feb"
                problems.append(Problem(("colors", number), text))
        self._font: bytes | None = None
        if settings.font is not None:
            track_file(settings.font)
            try:
                self._font = read_file(settings.font)
                ImageFont.truetype(io.BytesIO(self._font), 10)
            except OSError as error:
                text = f"{settings.font} cannot be used: {error.strerror or error}"
                problems.append(Problem(("font",), text))
        if problems:
            raise SettingsError(problems=problems)

    def letters(self, name: str | None, alias: Alias) -> str:
        """Return the initials of a display name, or else of an alias: two letters at most.

        Empty without a letter, as for a telephone number.
        """
        words = _WORDS.findall(name or "") or _WORDS.findall(alias.user)
        return "".join(word[0] for word in (*words[:1], *words[1:][-1:])).upper()

    def color(self, alias: Alias) -> tuple[int, ...]:
        """Return the colour of an alias, always the same one."""
        return self._colors[crc32(alias.encode(errors="replace")) % len(self._colors)]

    def draw(
        self, letters: str, color: tuple[int, ...], width: int | None, height: int | None
    ) -> Avatar | None:
        """Return a picture of this size in pixels, ``None`` if the font lacks a letter."""
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - 40 ms of import

        size = (width or SIDE, height or SIDE)
        if not all(0 < side <= MAX_SIDE for side in size):
            return None
        points = max(1, round(min(size) * HEIGHT))
        font: ImageFont.FreeTypeFont | ImageFont.ImageFont
        if self._font is None:
            font = ImageFont.load_default(points)
            # Pillow's own font has letters without accents only.
            letters = unicodedata.normalize("NFKD", letters)
            letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
        else:
            font = ImageFont.truetype(io.BytesIO(self._font), points)
        missing = bytes(font.getmask(_MISSING))
        if not letters or any(bytes(font.getmask(letter)) == missing for letter in letters):
            return None
        image = Image.new("RGB", size, color)
        draw = ImageDraw.Draw(image)
        draw.text((size[0] / 2, size[1] / 2), letters, _contrast(color), font, anchor="mm")
        out = io.BytesIO()
        image.save(out, "JPEG", quality=90)
        return Avatar(out.getvalue(), reason=REASON).resized(width or SIDE, height or SIDE)


def _contrast(color: Sequence[int]) -> str:
    """Return black or white, whichever is easier to read on a colour."""
    red, green, blue = color
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 160 else "white"  # noqa: PLR2004


CacheKey = tuple[object, ...]
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
        self._renderings: Cache[CacheKey, Avatar | None] = Cache(settings.max_age, half, clock)
        self._fetches: SingleFlight[Alias, Entry[Avatar | None]] = SingleFlight()
        self._drawings: SingleFlight[CacheKey, Entry[Avatar | None]] = SingleFlight()
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
        self, key: CacheKey, at: float, make: Callable[[], Avatar | None]
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
    built: dict[str, Any] = {}
    makers: dict[str, Callable[[], Any]] = {}
    if settings.folder is not None:
        folder, files = settings.folder, [Template(text) for text in settings.files]
        makers["folder"] = partial(Folder, folder, files)
    if settings.source is not None and settings.query is not None:
        makers["source"] = partial(RowPictures, settings.source, settings.query)
    for key, kind in (("http", WebServer), ("graph", Graph), ("initials", Initials)):
        if (table := getattr(settings, key)) is not None:
            makers[key] = partial(kind, table)
    for key, make in makers.items():
        try:
            built[key] = make()
        except SettingsError as error:
            problems += error.under(() if key == "source" else (key,))
    if problems:
        raise SettingsError(problems=problems)
    initials = built.pop("initials", None)
    return tuple(built.values()), initials


def _warnings(settings: AvatarsSettings) -> Iterable[ConfigWarning]:
    http, graph = settings.http, settings.graph
    templates: list[tuple[Key, str]] = []
    sent: list[tuple[Key, str]] = []
    if settings.folder is not None:
        templates += [(("files",), text) for text in settings.files]
    if settings.query is not None:
        templates.append((("query",), settings.query))
    if http is not None:
        templates.append((("http", "url"), http.url))
        sent += [(("http", "url"), http.url)] if http.authorization() else []
    if graph is not None:
        templates.append((("graph", "user"), graph.user))
        sent += [(("graph", "authority"), graph.authority), (("graph", "endpoint"), graph.endpoint)]
    loose = [found for found in templates if ignores_the_host(found[1])]
    for key, text in loose[: not settings.domains]:
        says = f"{text} gives a caller of any domain the picture of that user: write domains"
        yield ConfigWarning(key, says)
    for key, url in sent:
        if not is_encrypted(url):
            yield ConfigWarning(key, "the credentials are sent unencrypted: write https://")
