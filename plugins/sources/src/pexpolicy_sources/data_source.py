"""Data source: what plugins ask by key (a lookup), or take all rows of (a snapshot)."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from operator import eq
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Self, TypeVar

from pydantic import Field, model_validator

from pexpolicy import PluginSettings, Refreshed
from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.files import CacheFile
from pexpolicy.text import is_utf8

Value = str | int | float | bool | None
"""A parameter of a query."""
Row = dict[str, Any]
"""The columns of a row by name; values are those of JSON."""


class Answer(NamedTuple):
    """What a source answers; no rows for a key that it does not have."""

    rows: Sequence[Row]
    etag: str = ""
    """The version of the rows, with which a source may say that they are the same."""


def rows_at(value: Any, place: str) -> list[Row]:
    """Return the rows in a document: one object, or a list of objects.

    ``place`` are the names of tables on the way, such as ``data.items``; empty: the document.
    Raises ``ValueError``.
    """
    for name in filter(None, place.split(".")):
        if not isinstance(value, dict) or name not in value:
            there = f"; there are {', '.join(value)}" if isinstance(value, dict) and value else ""
            raise ValueError(f"there is no {place}{there}")
        value = value[name]
    rows = [value] if isinstance(value, dict) else value
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise ValueError(f"{place or 'it'} is neither an object nor a list of objects")
    return rows


def text_of(value: Value) -> str:
    """Return a value as text: ``true`` or ``false``, and nothing for none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def unknown_parameter(form: str, name: str, known: Iterable[str]) -> ValueError:
    """Return what is wrong with a query that has another parameter; ``form`` is how it has one."""
    there = ", ".join(form.format(one) for one in known) or "none"
    return ValueError(f"has the parameter {form.format(name)}; there is: {there}")


MAX_TEXT = 200
"""Characters of a message."""


class SourceError(Exception):
    """A source gave no answer; the text has the reason, without credentials."""

    explains_itself = True


class SourceUnavailableError(SourceError):
    """The source is down, does not answer in time, or refuses everything."""


class QueryError(SourceError):
    """The source refuses this query, or these parameters."""


def one_line(text: str) -> str:
    """Return a message of a library in one line of limited length."""
    return " ".join(text.split())[:MAX_TEXT]


FAILURES = 3
"""Failures in a row, roughly, after which a source that is down is asked once in each pause."""
PAUSE_S = 1.0
"""Seconds between two attempts while the source is down."""

Key = tuple[Value, ...]
T = TypeVar("T")
Q = TypeVar("Q")


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


class Found(NamedTuple):
    """The rows of a key; none if the source does not have it."""

    rows: Sequence[Row]
    age: float
    """Seconds since the source answered."""


class _Entry(NamedTuple):
    answer: Answer
    fetched_at: float


async def joined(task: asyncio.Task[T | SourceError]) -> T | SourceError:
    """Wait for a task that several calls share, and return its result or why there is none."""
    await asyncio.wait((task,))
    if task.cancelled():
        return SourceUnavailableError("the source was closed")
    result = task.result()
    # Raised in several calls, one exception would collect the tracebacks of all.
    return type(result)(*result.args) if isinstance(result, SourceError) else result


class Lookup(Generic[Q]):
    """One query of a source, asked by key.

    An answer, also one without rows, is used for ``refresh_after`` seconds. Then the source is
    asked again, and if it fails, the answer is used until it is ``max_age`` seconds old. A failure
    is never kept. Calls with the same parameters wait for the same query, ``timeout`` seconds at
    most. ``entries`` answers are kept, those that were used last.
    """

    def __init__(
        self, source: DataSource[Any, Q], query: Q, parameters: Sequence[str], entries: int
    ) -> None:
        self.hits = 0
        self.fetches = 0
        self.stale = 0
        """Answers that were used because the source failed."""
        self.failures = 0
        """Queries that failed."""
        self.problem = ""
        """Why the last query failed; empty after a success."""
        self._source = source
        self._clock = source.clock
        self._query = query
        self._names = tuple(parameters)
        self._limits = source.settings
        self._max_entries = entries
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._running: dict[Key, asyncio.Task[Answer | SourceError]] = {}
        self._breaker = self._closed_breaker()

    async def ask(self, **parameters: Value) -> Found:
        """Return the rows for these parameters; raises ``SourceError``, and ``TypeError`` for
        other parameters than those of the query.
        """
        if parameters.keys() != set(self._names):
            msg = f"the query takes {', '.join(self._names)}, not {', '.join(parameters)}"
            raise TypeError(msg)
        # An alias is asked for in its normal form.
        values = (parameters[name] for name in self._names)
        key = tuple(str(value) if isinstance(value, str) else value for value in values)
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            age = self._clock() - entry.fetched_at
            if age <= self._limits.refresh_after:
                self.hits += 1
                return Found(entry.answer.rows, age)
        elif any(isinstance(value, str) and ("\0" in value or not is_utf8(value)) for value in key):
            return Found((), 0.0)  # neither UTF-8 nor a database can hold it
        result = await self._refresh(key, entry)
        if isinstance(result, Answer):
            return Found(result.rows, 0.0)
        if entry is not None and (age := self._clock() - entry.fetched_at) <= self._limits.max_age:
            self.stale += 1
            return Found(entry.answer.rows, age)
        raise result

    def __len__(self) -> int:
        return len(self._entries)

    async def _refresh(self, key: Key, entry: _Entry | None) -> Answer | SourceError:
        """Wait for a new answer, and return it or why there is none."""
        task = self._running.get(key)
        if task is None:
            if not self._breaker.allows_call(self._clock()):
                return SourceUnavailableError(f"the source is not asked now: {self.problem}")
            task = self._running[key] = self._source.start(self._run(key, entry))
        return await joined(task)

    async def _run(self, key: Key, entry: _Entry | None) -> Answer | SourceError:
        self.fetches += 1
        parameters = dict(zip(self._names, key, strict=True))
        previous = None if entry is None else entry.answer
        fetching = self._source.start(self._source.fetch(self._query, parameters, previous))
        try:
            # It may take a while to end after its cancellation: no call waits for that.
            await asyncio.wait((fetching,), timeout=self._limits.timeout)
            if not fetching.done():
                text = f"no answer within {self._limits.timeout:.3g} s"
                return self._failed(SourceUnavailableError(text))
            answer = fetching.result()
        except SourceError as error:
            return self._failed(error)
        finally:
            fetching.cancel()
            self._running.pop(key, None)
        self._entries[key] = _Entry(answer, self._clock())
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
        self._breaker = self._closed_breaker()
        self.problem = ""
        return answer

    def _failed(self, error: SourceError) -> SourceError:
        self.failures += 1
        self.problem = str(error)
        if isinstance(error, SourceUnavailableError):
            self._breaker.record_failure(self._clock())
        return error

    def _closed_breaker(self) -> CircuitBreaker:
        # With a new one only failures in a row count.
        return CircuitBreaker(FAILURES, FAILURES * (self._limits.timeout + PAUSE_S), PAUSE_S)


class Snapshot(Generic[T]):
    """What ``convert`` makes of all rows of a query, fetched again every ``every`` seconds.

    ``convert`` runs in a thread, for rows that have changed. It may raise ``ValueError`` to refuse
    them: then the last ones stay. The rows are what ``file`` keeps, and what a reload hands over;
    ``async with`` in the ``lifespan`` of a plugin converts them before the first call.
    """

    def __init__(
        self,
        fetch: Callable[[Answer | None], Awaitable[Answer]],
        convert: Callable[[list[Row]], T],
        **refreshed: Any,
    ) -> None:
        """Take the rows of ``fetch``; the rest is for ``Refreshed``."""
        self._fetch = fetch
        self._convert = convert
        self._answer: Answer | None = None
        self._converted: list[tuple[list[Row], T]] = []
        """Rows with what was made of them: those of the value, and until it is replaced the next.
        """
        self._rows: Refreshed[list[Row]] = Refreshed(self._fetch_and_convert, **refreshed)

    @property
    def value(self) -> T:
        """The converted rows; raises ``DataUnavailableError`` if there are none yet."""
        rows = self._rows.value
        made = self._made_of(rows)
        if self._converted[-1][0] is rows:
            self._converted = self._converted[-1:]
        return made

    def _made_of(self, rows: list[Row]) -> T:
        for known, made in self._converted:
            if known is rows:
                return made
        made = self._convert(rows)
        self._converted = [*self._converted[-1:], (rows, made)]
        return made

    @property
    def age(self) -> float:
        """Seconds since the rows were fetched; infinite if there are none."""
        return self._rows.age

    async def refresh(self) -> None:
        """Fetch now; raise what that raises."""
        await self._rows.refresh()

    async def __aenter__(self) -> Self:
        await self._rows.open()
        try:
            if self._rows.age < float("inf"):
                try:
                    await asyncio.to_thread(lambda: self.value)
                except ValueError:  # refused, as by other settings
                    await self._rows.refresh()
        except BaseException:
            await self._rows.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._rows.close()

    async def _fetch_and_convert(self) -> list[Row]:
        answer = await self._fetch(self._answer)
        rows = list(answer.rows)
        for last, _ in self._converted[-1:]:
            if await asyncio.to_thread(eq, rows, last):
                rows = last  # they may be many, and are not kept twice
        await asyncio.to_thread(self._made_of, rows)
        self._answer = Answer(rows, answer.etag)
        return rows


STOP_S = 1.0
"""Seconds for queries to end after their cancellation."""


S = TypeVar("S", bound=DataSourceSettings)


class DataSource(ABC, Generic[S, Q]):
    """The base of drivers; ``Q`` is a query that was checked.

    A plugin calls ``lookup`` or ``snapshot`` in its constructor.
    """

    def __init__(self, settings: S) -> None:
        self.settings = settings
        self.clock: Callable[[], float] = time.monotonic
        self._lookups: dict[tuple[str, tuple[str, ...], int], Lookup[Q]] = {}
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
    ) -> Lookup[Q]:
        """Return a query that is asked by key, with these parameters; raises ``ValueError``.

        Plugins with the same query share its cache, which outlives a reload. It has at most
        ``entries`` answers, or what the settings say if that is less.
        """
        kept = self.settings.entries if entries is None else min(entries, self.settings.entries)
        known = (query, tuple(parameters), kept)
        if (lookup := self._lookups.get(known)) is not None:
            return lookup
        lookup = Lookup(self, self.prepare(query, parameters), parameters, kept)
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
        return Snapshot(
            lambda previous: self.fetch_all(prepared, previous),
            convert,
            every=every,
            timeout=self.settings.snapshot_timeout,
            key=self._key(query),
            file=None if file is None else CacheFile(file, list[Row]),
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
        """Return where the rows come from."""
        return f"{type(self).__name__}\n{self.settings!r}"

    def _key(self, query: str) -> str:
        """Return what a snapshot depends on, as a hash: the settings may name users."""
        text = f"{self._place()}\n{query}"
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
