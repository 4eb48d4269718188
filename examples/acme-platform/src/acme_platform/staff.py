"""The staff directory: a source that plugins share, refreshed and kept on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Self

import aiohttp

from pexpolicy import (
    Alias,
    ConfigPath,
    ParticipantProperties,
    ParticipantPropertiesRequest,
    Plugin,
    PluginSettings,
    Refreshed,
    Source,
    schedule,
)
from pexpolicy.files import CacheFile


class Staff:
    """The driver: names by alias, from a JSON object that a web service has."""

    class Settings(PluginSettings):
        """The keys of ``[sources.NAME]``."""

        url: str
        cache: ConfigPath
        every: float = 300.0

    def __init__(self, settings: Settings) -> None:
        self._url = settings.url
        self._client: aiohttp.ClientSession
        self._open = AsyncExitStack()
        self._names = Refreshed(
            self._fetch,
            every=settings.every,
            first="stale",
            key=settings.url,
            file=CacheFile(settings.cache, dict[str, str]),
            name="names",
        )

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=8)
        async with AsyncExitStack() as stack:
            self._client = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
            # The server would open it, too; a test has no server.
            await stack.enter_async_context(self._names)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def _fetch(self) -> dict[str, str]:
        async with self._client.get(self._url) as answer:
            answer.raise_for_status()
            return {Alias(alias): str(name) for alias, name in (await answer.json()).items()}

    def name_of(self, alias: Alias) -> str | None:
        """Return the name of a person; raises ``DataUnavailableError`` before the first fetch."""
        return self._names.value.get(alias)


class NamesSettings(PluginSettings):
    """The keys of ``[plugins.acme_names.settings]``."""

    staff: Source[Staff]


class Names(Plugin[NamesSettings]):
    """Shows people under the name that the staff directory has for them."""

    def __init__(self, settings: NamesSettings) -> None:
        super().__init__(settings)
        self._staff = settings.staff
        self._unknown: Counter[str] = Counter()
        schedule(self._forget_rare, every=3600, once_per="worker")

    async def _forget_rare(self) -> None:
        """Keep the domains that were unknown most often, so that the counters stay small."""
        self._unknown = Counter(dict(self._unknown.most_common(10)))

    async def status(self) -> Mapping[str, object]:
        """Return the domains whose people the directory does not know."""
        return {"unknown": dict(self._unknown.most_common(10))}

    async def participant_properties(
        self, request: ParticipantPropertiesRequest
    ) -> ParticipantProperties | None:
        """Look the caller up in memory."""
        name = self._staff.name_of(request.remote_alias)
        if name is None:
            self._unknown[request.remote_alias.host] += 1
            return None
        return ParticipantProperties(remote_display_name=name)
