"""Snapshot: all rows of a query, converted for the calls that read them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from operator import eq
from pathlib import Path
from typing import Generic, Literal, Self, TypeVar

from pexpolicy import Refreshed
from pexpolicy.files import CacheFile
from pexpolicy_sources.rows import Answer, Row

T = TypeVar("T")


class Snapshot(Generic[T]):
    """What ``convert`` makes of all rows of a query, fetched again every ``every`` seconds.

    ``convert`` runs in a thread, for rows that have changed. It may raise ``ValueError`` to refuse
    them: then the last ones stay. The rows are what ``file`` keeps, and what a reload hands over;
    ``async with`` in the ``lifespan`` of a plugin converts them before the first call.
    """

    def __init__(  # noqa: PLR0913 - they have names
        self,
        fetch: Callable[[Answer | None], Awaitable[Answer]],
        convert: Callable[[list[Row]], T],
        *,
        every: float,
        limit: float,
        key: str,
        file: Path | None,
        first: Literal["required", "stale"],
        name: str,
    ) -> None:
        self._fetch = fetch
        self._convert = convert
        self._answer: Answer | None = None
        self._converted: tuple[list[Row], T] | None = None
        self._next: tuple[list[Row], T] | None = None
        """The same of the next rows: calls read the last ones until these are the value."""
        self._rows = Refreshed(
            self._fetch_and_convert,
            every=every,
            timeout=limit,
            first=first,
            key=key,
            file=None if file is None else CacheFile(file, list[Row]),
            name=name,
        )

    @property
    def value(self) -> T:
        """The converted rows; raises ``DataUnavailableError`` if there are none yet."""
        rows, fetched = self._rows.value, self._next
        if fetched is not None and fetched[0] is rows:
            self._converted, self._next = fetched, None
        if self._converted is None or self._converted[0] is not rows:
            self._converted = rows, self._convert(rows)
        return self._converted[1]

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
                await self._convert_first()
        except BaseException:
            await self._rows.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._rows.close()

    async def _convert_first(self) -> None:
        """Convert the rows that were kept; fetch where they are refused, as by other settings."""
        try:
            await asyncio.to_thread(lambda: self.value)
        except ValueError as refused:
            try:
                await self._rows.refresh()
            except Exception:  # noqa: BLE001 - the first reason is what the operator can mend
                raise refused from None

    async def _fetch_and_convert(self) -> list[Row]:
        answer = await self._fetch(self._answer)
        rows = list(answer.rows)
        last = self._next or self._converted
        if last is not None and await asyncio.to_thread(eq, rows, last[0]):
            # As answers may be large, the new rows are not kept next to equal ones.
            self._answer = Answer(last[0], answer.etag)
            self._converted, self._next = last, None
            return last[0]
        converted = await asyncio.to_thread(self._convert, rows)
        self._answer = Answer(rows, answer.etag)
        self._converted, self._next = last, (rows, converted)
        return rows
