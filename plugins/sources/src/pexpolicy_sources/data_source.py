"""Data source: what plugins ask by key, or take as a snapshot."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import Field, model_validator

from pexpolicy import PluginSettings
from pexpolicy_sources.lookup import Lookup
from pexpolicy_sources.rows import Answer, Row, Value
from pexpolicy_sources.snapshot import Snapshot

STOP_S = 1.0
"""Seconds for queries to end after their cancellation."""


class DataSourceSettings(PluginSettings):
    """The keys of ``[sources.NAME]`` that all drivers have. Times in seconds."""

    timeout: float = Field(0.5, gt=0.0, le=5.0)
    """For one query by key; shorter than the timeout of the plugin that asks."""
    refresh_after: float = Field(30.0, ge=0.0)
    """An answer that is older is asked for again."""
    max_age: float = Field(3600.0, ge=0.0)
    """An answer that is older is never used; until then it is if the source fails."""
    entries: int = Field(10_000, ge=1)
    """Answers that are kept for each query."""
    snapshot_timeout: float = Field(30.0, gt=0.0)
    """For all rows of a snapshot."""

    @model_validator(mode="after")
    def _ages_in_order(self) -> Self:
        if self.max_age < self.refresh_after:
            msg = f"max_age must be at least refresh_after, which is {self.refresh_after:g}"
            raise ValueError(msg)
        return self


T = TypeVar("T")
S = TypeVar("S", bound=DataSourceSettings)
_CREDENTIALS = ("password", "token", "client_secret", "ca")
_HOW = {
    *DataSourceSettings.model_fields,
    *(f"{name}_{kind}" for name in _CREDENTIALS for kind in ("env", "file")),
    *("max_mb", "page_size", "pool_size", "tls"),
}
"""Keys that say how a source is asked, and not for which rows."""
Q = TypeVar("Q")


class DataSource(ABC, Generic[S, Q]):
    """The base of drivers; ``Q`` is a query that was checked.

    A plugin calls ``lookup`` or ``snapshot`` in its constructor.
    """

    def __init__(self, settings: S) -> None:
        self.settings = settings
        self.clock: Callable[[], float] = time.monotonic
        self._lookups: dict[tuple[str, tuple[str, ...], int], Lookup] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._context = contextvars.Context()

    @abstractmethod
    def prepare(self, query: str, parameters: Collection[str]) -> Q:
        """Check a query that may use these parameters; raises ``ValueError``. No I/O."""

    @abstractmethod
    async def fetch(
        self, query: Q, parameters: Mapping[str, Value], previous: Answer | None
    ) -> Answer:
        """Ask by key; raises ``SourceError``. Cancelled after ``timeout``."""

    @abstractmethod
    async def fetch_all(self, query: Q, previous: Answer | None) -> Answer:
        """Return all rows of a query; raises ``SourceError``. Cancelled after its timeout."""

    async def open(self) -> None:
        """Open what is needed to ask. A source that is down is no error."""

    async def close(self) -> None:
        """Close what was opened."""

    def lookup(
        self, query: str, parameters: Sequence[str], *, entries: int | None = None
    ) -> Lookup:
        """Return a query that is asked by key, with these parameters; raises ``ValueError``.

        Plugins with the same query share its cache, which outlives a reload. It has at most
        ``entries`` answers, or what the settings say if that is less.
        """
        kept = self.settings.entries if entries is None else min(entries, self.settings.entries)
        known = (query, tuple(parameters), kept)
        if (lookup := self._lookups.get(known)) is not None:
            return lookup
        prepared = self.prepare(query, parameters)

        async def fetch(values: Mapping[str, Value], previous: Answer | None) -> Answer:
            return await self.fetch(prepared, values, previous)

        limits = self.settings.model_copy(update={"entries": kept})
        lookup = Lookup(fetch, parameters, self.start, limits, self.clock)
        self._lookups[known] = lookup
        return lookup

    def snapshot(
        self,
        query: str,
        convert: Callable[[list[Row]], T],
        *,
        every: float,
        file: Path | None = None,
        first: Literal["required", "stale"] = "required",
        name: str = "rows",
    ) -> Snapshot[T]:
        """Return all rows of a query, fetched every ``every`` seconds; raises ``ValueError``.

        ``file`` keeps them for a start without the source; ``first`` and ``name`` are those of
        ``Refreshed``.
        """
        prepared = self.prepare(query, ())

        async def fetch(previous: Answer | None) -> Answer:
            return await self.fetch_all(prepared, previous)

        return Snapshot(
            fetch,
            convert,
            every=every,
            limit=self.settings.snapshot_timeout,
            key=self._key(query),
            file=file,
            first=first,
            name=name,
        )

    def status(self) -> Mapping[str, Mapping[str, object]]:
        """Return what the lookups did, by query."""
        return {
            query: {
                "entries": len(lookup),
                "hits": lookup.hits,
                "fetches": lookup.fetches,
                "failures": lookup.failures,
                "stale": lookup.stale,
                "problem": lookup.problem or None,
            }
            for (query, _, _), lookup in self._lookups.items()
        }

    async def __aenter__(self) -> Self:
        self._context = contextvars.copy_context()
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=STOP_S)
        await self.close()

    def start(self, query: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a query in a task of the source: the call that began it may end before."""
        task = asyncio.get_running_loop().create_task(query, context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _place(self) -> str:
        """Return where the rows come from.

        Limits, credentials and certificates are no part of it: with others, the rows that are kept
        stay while the source is down.
        """
        # Without defaults, as a later version may have more keys.
        fields = type(self.settings).model_fields
        place = {
            name: value
            for name, value in self.settings
            if name not in _HOW and value != fields[name].get_default(call_default_factory=True)
        }
        return f"{type(self).__name__}\n{place!r}"

    def _key(self, query: str) -> str:
        """Return what a snapshot depends on, as a hash: the settings may name users."""
        text = f"{self._place()}\n{query}"
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
