"""Sources of rows, as the plugin uses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
V_co = TypeVar("V_co", covariant=True)


class Snapshot(AbstractAsyncContextManager[object], Protocol[V_co]):
    """Rows of a source, converted, and fetched again at an interval."""

    @property
    def value(self) -> V_co:
        """What was made of the rows; raises ``DataUnavailableError`` if there are none yet."""

    @property
    def age(self) -> float:
        """Seconds since the rows were fetched."""


class Found(Protocol):
    """The rows of a key."""

    @property
    def rows(self) -> Sequence[object]:
        """None if the source does not have it."""

    @property
    def age(self) -> float:
        """Seconds since the source answered."""


class Lookup(Protocol):
    """A query that is asked by key."""

    async def ask(self, *, value: str) -> Found:
        """Return the rows for a value; raise what the source raises."""


@runtime_checkable
class RowSource(Protocol):
    """A source that is asked by key or for all rows, such as those of ``pexpolicy-sources``."""

    def lookup(self, query: str, parameters: Sequence[str]) -> Lookup:
        """Return a query that is asked by key; raises ``ValueError`` for one with an error."""
        ...

    def snapshot(
        self,
        query: str,
        convert: Callable[[list[dict[str, Any]]], T],
        *,
        every: float,
        file: Path | None = None,
        first: Literal["required", "stale"] = "required",
        name: str = "rows",
    ) -> Snapshot[T]:
        """Return the rows of a query; raises ``ValueError`` for one with an error."""
        ...
