"""Lookup: a query asked by key, with a bounded cache."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy_sources.errors import SourceError, SourceUnavailableError
from pexpolicy_sources.rows import Answer, Row, Value

FAILURES = 3
"""Failures in a row, roughly, after which a source that is down is asked once in each pause."""
PAUSE_S = 1.0
"""Seconds between two attempts while the source is down."""

Key = tuple[Value, ...]
Fetch = Callable[[Mapping[str, Value], Answer | None], Coroutine[Any, Any, Answer]]
"""Asks the source; the second argument is the previous answer to the same parameters."""
T = TypeVar("T")


class Start(Protocol):
    """Runs a coroutine in a task that outlives the call."""

    def __call__(self, query: Coroutine[Any, Any, T], /) -> asyncio.Task[T]:
        """Return the task."""


class Limits(Protocol):
    """The limits of a lookup; times in seconds."""

    @property
    def timeout(self) -> float:
        """For one query."""

    @property
    def refresh_after(self) -> float:
        """An answer that is older is asked for again."""

    @property
    def max_age(self) -> float:
        """An answer that is older is never used."""

    @property
    def entries(self) -> int:
        """Answers that are kept."""


class Found(NamedTuple):
    """The rows of a key; none if the source does not have it."""

    rows: Sequence[Row]
    age: float
    """Seconds since the source answered."""


class _Entry(NamedTuple):
    answer: Answer
    fetched_at: float


class Lookup:
    """One query of a source, asked by key.

    An answer, also one without rows, is used for ``refresh_after`` seconds. Then the source is
    asked again, and if it fails, the answer is used until it is ``max_age`` seconds old. A failure
    is never kept. Calls with the same parameters wait for the same query, ``timeout`` seconds at
    most. ``entries`` answers are kept, those that were used last.
    """

    def __init__(
        self,
        fetch: Fetch,
        parameters: Sequence[str],
        start: Start,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hits = 0
        self.fetches = 0
        self.stale = 0
        """Answers that were used because the source failed."""
        self.failures = 0
        """Queries that failed."""
        self.problem = ""
        """Why the last query failed; empty after a success."""
        self._fetch = fetch
        self._names = tuple(parameters)
        self._start = start
        self._limits = limits
        self._clock = clock
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
        key = tuple(_plain(parameters[name]) for name in self._names)
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            age = self._clock() - entry.fetched_at
            if age <= self._limits.refresh_after:
                self.hits += 1
                return Found(entry.answer.rows, age)
        elif not all(map(_is_text, key)):
            return Found((), 0.0)  # no source can have it
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
            task = self._running[key] = self._start(self._run(key, entry))
        await asyncio.wait((task,))
        if task.cancelled():
            return SourceUnavailableError("the source was closed")
        result = task.result()
        # Raised in several calls, one exception would collect the tracebacks of all.
        return result if isinstance(result, Answer) else type(result)(*result.args)

    async def _run(self, key: Key, entry: _Entry | None) -> Answer | SourceError:
        self.fetches += 1
        parameters = dict(zip(self._names, key, strict=True))
        fetching = self._start(self._fetch(parameters, None if entry is None else entry.answer))
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
        while len(self._entries) > self._limits.entries:
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


def _plain(value: Value) -> Value:
    """Return an alias as text, in its normal form."""
    return str(value) if isinstance(value, str) else value


def _is_text(value: Value) -> bool:
    """Return false for text that neither UTF-8 nor a database can hold."""
    return not isinstance(value, str) or ("\0" not in value and not _has_surrogate(value))


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
