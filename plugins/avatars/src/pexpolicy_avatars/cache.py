"""Cache bounded by age and size, and the sharing of fetches that are in progress."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

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

    def __init__(self, limit: int = MAX_FETCHES) -> None:
        self._limit = limit
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
            if len(self._tasks) >= self._limit:
                raise OverloadError(f"{self._limit} pictures are being fetched already")
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
