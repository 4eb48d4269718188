"""Refreshed data: fetched again at an interval, kept while its source is down, and in a file."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from pexpolicy.background.schedule import STOP_TIMEOUT_S, Periodic, check_seconds
from pexpolicy.background.shared import Store
from pexpolicy.background.shared_state import SWEEP_S, SharedState, SharedUnavailableError
from pexpolicy.config.files import NamedPath, read_own, write_own
from pexpolicy.errors import describe_error
from pexpolicy.tasks import Failure, end_tasks, run_in_thread, start_background

T = TypeVar("T")

MIN_BACKOFF_S = 1.0
"""Seconds before the second attempt after a failure; doubled with each further one."""


class DataUnavailableError(Exception):
    """Data was never fetched, or could not be fetched where it is required."""


class Refreshed(Periodic[T]):
    """Data that is fetched at the start and again every ``every`` seconds.

    Create it in the constructor of a plugin. The server opens it after the plugin's ``lifespan``
    was entered, and closes it before that is left, so ``fetch`` may use what the lifespan opened.
    Without a server it is an asynchronous context manager. Times in seconds.

    ``fetch`` returns the data, or raises; it has ``timeout``. After a failure the last value stays,
    and ``fetch`` is called again after 1, 2, 4 ... seconds, at most ``max_backoff`` or ``every``.

    ``first="required"``: the server starts, and a reload succeeds, only with data that is at most
    ``every`` old. ``first="stale"``: with older data too, and without any. ``first="later"``: the
    same, and nothing waits for the first attempt, as of a slow service; a dry run makes none.

    ``key`` names what the data depends on, such as the URL. At a reload the last value goes to the
    ``Refreshed`` of the same plugin, ``name`` and ``key``; without a key it does not. ``file`` also
    keeps it for the next start.

    ``name`` is used in the log, the status and the metrics; ``clock`` returns seconds that never
    decrease.
    """

    kind = "data"
    hook = "refresh"
    failures = 0
    """Attempts that failed since the last success."""
    keeps_file = True
    """False where the file is only read."""
    signal: Callable[[], Awaitable[None]] | None = None
    """Makes other processes fetch."""
    _fetched_at = -math.inf
    _ended = 0
    """The number of attempts that have ended."""
    _error: BaseException | None = None
    """Why the last one failed."""

    def __init__(  # noqa: PLR0913 - they have defaults and names
        self,
        fetch: Callable[[], Awaitable[T]],
        *,
        every: float,
        timeout: float = 10.0,
        first: Literal["required", "stale", "later"] = "required",
        key: str | None = None,
        file: CacheFile[T] | None = None,
        name: str = "data",
        max_backoff: float = 60.0,
        jitter: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(fetch, name, every, timeout)
        check_seconds(max_backoff=max_backoff)
        if not 0 <= jitter < 1:
            raise ValueError("jitter must be from 0 to below 1")
        if first not in ("required", "stale", "later"):
            raise ValueError(f"first is 'required', 'stale' or 'later', and not {first!r}")
        if not (file is None or isinstance(file, CacheFile)):
            raise TypeError("file is a CacheFile(path, type)")
        if file is not None and key is None:
            raise ValueError("file needs a key: write key=, the setting that the data depends on")
        self._is_required = first == "required"
        self._is_awaited = first != "later"
        self._key = key
        self.cache_key = f"{name}\n{key}"
        """What ``file`` is loaded with."""
        self.file = file
        self._max_backoff = min(max_backoff, every)
        self._jitter = jitter
        self._clock = clock
        self._values: list[T] = []
        self._waiting_since = clock()
        self._lock = asyncio.Lock()

    @property
    def value(self) -> T:
        """The last value; raises ``DataUnavailableError`` if there is none."""
        if self._values:
            return self._values[0]
        why = self.problem or "it is fetched once the plugin's lifespan was entered"
        raise DataUnavailableError(f"{self.name} has no value yet: {why}")

    @property
    def age(self) -> float:
        """Seconds since the value was fetched; infinite if there is none."""
        return self._clock() - self._fetched_at

    @property
    def waiting_for(self) -> float:
        """Seconds since the value was fetched, or since data without a value was opened."""
        return min(self.age, self._clock() - self._waiting_since)

    def report(self) -> dict[str, object]:
        """Return the state for the status, without the value."""
        age = self.age if self._values else None
        return {"age": age, "every": self.every, "problem": self.problem or None}

    def take_over(self, previous: Refreshed[Any]) -> None:
        """Start with the value of the same data of another generation."""
        if self._key is not None and self.cache_key == previous.cache_key:
            # The creator of the data gives it a clock; seconds of different clocks do not compare.
            self._values = list(previous._values)
            self._fetched_at = self._clock() - previous.age

    async def open(self) -> None:
        """Fetch the data, unless it is new enough, and refresh it until ``close``.

        Raises ``DataUnavailableError``.
        """
        self._waiting_since = self._clock()
        if not self._values and self.file is not None:
            await self._load(self.file)
        is_old = self.age > self.every and (self._is_required or not self._values)
        attempts = is_old and self._is_awaited
        if attempts and await self.attempt() is not None and self._is_required:
            raise DataUnavailableError(f"{self.name} could not be fetched: {self.problem}")
        if self._is_awaited or self.keeps_file:  # a dry run would end before
            await super().open()

    async def refresh(self, *, everywhere: bool = False) -> None:
        """Fetch now; raise what ``fetch`` raises, and ``TimeoutError``.

        A call while ``fetch`` runs waits for the next one, which all such calls share.

        ``everywhere``: once it has succeeded, the other workers, and all servers that share a
        database by ``[shared]``, fetch within about a second as well; it does not wait for them.
        Raises ``SharedUnavailableError`` if they cannot be told.
        """
        if (error := await self.attempt()) is not None:
            raise error
        if everywhere and self.signal is not None:
            await self.signal()

    async def attempt(self) -> BaseException | None:
        """Fetch, and return why it failed; an attempt that began before the call does not count."""
        wanted = self._ended + 1 + self._lock.locked()
        async with self._lock:
            if self._ended < wanted:
                self._error = await self._fetch()
                self._ended += 1
            return self._error

    async def _fetch(self) -> BaseException | None:
        result = await self._run_once()
        if isinstance(result, Failure):
            self.failures += 1
            self.problem = describe_error(result.error).summary
            age = round(self.age, 1) if self._values else None
            self._warn("data was not refreshed", result.error, age=age)
            return result.error
        self._values, self._fetched_at = [result], self._clock()
        self.failures, self.problem = 0, ""
        if self.file is not None and self.keeps_file:
            save = partial(self.file.save, result, self.cache_key, time.time())
            try:
                await run_in_thread(save, "pexpolicy-cache")
            except (OSError, CacheFileError, RuntimeError) as error:
                # RuntimeError: the process cannot start another thread.
                self._warn("data was not kept in its file", error)
        return None

    async def _load(self, file: CacheFile[T]) -> None:
        try:
            loaded = await run_in_thread(partial(file.load, self.cache_key), "pexpolicy-cache")
        except (CacheFileError, RuntimeError) as error:
            self._warn("the file of data is ignored", error)
            return
        if loaded is not None:
            self._values = [loaded[0]]
            self._fetched_at = self._clock() - max(time.time() - loaded[1], 0.0)

    async def _run_until_closed(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            await self.attempt()

    @property
    def _pause(self) -> float:
        """Seconds until the next attempt."""
        early = 1.0 - self._jitter * random.random()  # noqa: S311 - it spreads the load, no more
        if self.failures:
            return early * min(MIN_BACKOFF_S * 2.0 ** min(self.failures - 1, 20), self._max_backoff)
        return max(early * self.every - self.age, 0.0)


LOOK_S = 1.0
"""Seconds between two looks for what other processes have refreshed."""


@asynccontextmanager
async def looking_after(
    state: SharedState, data: Mapping[str, Refreshed[Any]]
) -> AsyncIterator[None]:
    """Fetch data again that another process has refreshed everywhere, and sweep the shared state.

    ``data`` is by owner and name.
    """
    signals, seen = Store("refresh", str, ttl=86_400.0), dict[str, str]()
    signals.bind("", state)
    tasks: set[asyncio.Task[Any]] = set()

    async def look() -> None:
        """Fetch what has changed since the last look."""
        nonlocal seen
        before, seen = seen, dict(await signals.items(limit=10_000))
        for name, sent in seen.items():
            if before.get(name) != sent and not sent.startswith(state.process) and name in data:
                _ = start_background(data[name].attempt(), tasks)

    async def look_always() -> None:
        for number in count(1):
            await asyncio.sleep(LOOK_S)
            with suppress(SharedUnavailableError):
                if state.exists:
                    await look()
                    await state.sweep() if number % SWEEP_S == 0 else None

    async def signal(name: str) -> None:
        await signals.put(name, f"{state.process} {uuid.uuid4()}")

    for name, one in data.items():
        one.signal = partial(signal, name)
    with suppress(SharedUnavailableError):
        seen = dict(await signals.items(limit=10_000)) if state.exists else {}
    _ = start_background(look_always(), tasks)
    yield
    await end_tasks(tasks, STOP_TIMEOUT_S)


class CacheFileError(Exception):
    """A cache file cannot be used; the text has the reason."""


class _Cached(msgspec.Struct):
    """The content of a cache file."""

    key: str
    fetched_at: float
    """Seconds since the epoch."""
    value: msgspec.Raw


class CacheFile(Generic[T]):
    """A file that holds one value as JSON, readable by its owner only.

    ``kind`` is the type of the value, as pydantic reads and writes it: ``dict[str, int]``, a
    model, a dataclass. Raises ``TypeError`` for one that pydantic does not know. The file is
    replaced in one step, and its folder must exist.
    """

    def __init__(self, path: Path, kind: type[T]) -> None:
        self.path = Path(path)
        try:
            self._values: TypeAdapter[T] = TypeAdapter(kind)
        except PydanticSchemaGenerationError:
            what = "a type that pydantic knows, such as dict[str, int], a dataclass or a model"
            raise TypeError(f"a CacheFile cannot hold {kind!r}: write {what}") from None

    def load(self, key: str) -> tuple[T, float] | None:
        """Return the value and when it was fetched; ``None`` for no file, or one of another key.

        Raises ``CacheFileError`` for a file that cannot be read or is damaged.
        """
        try:
            cached = msgspec.json.decode(read_own(self.path, 1 << 28), type=_Cached)
            if cached.key != _digest(key):
                return None
            return self._values.validate_json(bytes(cached.value), strict=True), cached.fetched_at
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CacheFileError(f"{self.path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            # Neither msgspec nor pydantic may be quoted: they repeat the value.
            raise CacheFileError(f"{self.path} is damaged, or of another type") from None

    def save(self, value: T, key: str, fetched_at: float) -> None:
        """Replace the file. Raises ``OSError``, and ``CacheFileError`` for another type."""
        try:
            content = self._values.dump_json(value, warnings="error")
        except ValueError:
            raise CacheFileError(f"the value for {self.path} is of another type") from None
        cached = _Cached(_digest(key), fetched_at, msgspec.Raw(content))
        # A torn file after a power failure is no JSON, so nothing is synced.
        write_own(self.path, msgspec.json.encode(cached))


def own_paths(
    key: tuple[str, ...], named: Iterable[NamedPath], refreshed: Iterable[Refreshed[Any]]
) -> tuple[NamedPath, ...]:
    """Return the paths of a plugin or source below its key, with the folders of its cache files."""
    found = {one.path: one._replace(key=(*key, *one.key)) for one in named}
    for path in (data.file.path for data in refreshed if data.file is not None):
        found[path] = NamedPath(path.parent, found.get(path, NamedPath(path, key)).key, "folder")
    return tuple(found.values())


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
