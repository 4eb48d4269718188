"""Lists of values from sources, for the operator ``in_source``."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pexpolicy import Alias, Problem, Request
from pexpolicy.matching import ValueList
from pexpolicy.rows import FoundRows, RowLookup, RowSnapshot
from pexpolicy_rules.settings import ListTable

_SAME_FOR_ALL = (
    "asks the same for each value, so that every value is in the list: compare with the parameter "
    'value, as in "mail = :value" for a file'
)
T = TypeVar("T")
Values = frozenset[str]
ByForm = Mapping[bool, Values]
"""The values of a list: true for those of aliases, false for those of other text."""
Answers = dict[tuple["KeyList", str], FoundRows]
"""Answers of sources by list and value."""


class LookupNeededError(Exception):
    """A condition needs an answer of a source that was not asked for in this call yet."""

    def __init__(self, values: KeyList, value: str) -> None:
        super().__init__(value)
        self.list, self.value = values, value


class SourceLists:
    """The lists of the plugin, made when a condition names them."""

    def __init__(self, tables: Mapping[str, ListTable], problems: list[Problem]) -> None:
        self._tables = tables
        self._problems = problems
        self._lists: dict[tuple[str, bool], ValueList] = {}
        self._snapshots: dict[str, RowSnapshot[ByForm]] = {}
        self._answers: WeakKeyDictionary[Request, Answers] = WeakKeyDictionary()
        """The answers of sources to a call, which its coverage needs after it, too."""
        self.asks = False
        """True if a condition may have to ask a source."""

    def __len__(self) -> int:
        return len(self._lists)

    def unused(self) -> Collection[str]:
        """Return the names of the lists that no condition uses."""
        return self._tables.keys() - {name for name, _ in self._lists}

    def find(self, name: str, kind: str) -> ValueList:
        """Return the list of a name for aliases or other text."""
        key = (name, kind == "alias")
        if key not in self._lists:
            self._lists[key] = self._made(name, is_alias=key[1])
        return self._lists[key]

    def _made(self, name: str, *, is_alias: bool) -> ValueList:
        table = self._tables[name]
        try:
            if table.by_key and not re.search(r"\bvalue\b", table.query):
                raise ValueError(_SAME_FOR_ALL)  # noqa: TRY301 - reported like those of the source
            if table.by_key:
                self.asks = True
                lookup = table.source.lookup(table.query, ["value"])
                return KeyList(lookup, self._answers)
            # One snapshot has both forms: its rows would be fetched twice.
            if name not in self._snapshots:
                self._snapshots[name] = table.source.snapshot(
                    table.query,
                    lambda rows: {
                        form: frozenset(_each(rows, table.column, _normal(is_alias=form)))
                        for form in (True, False)
                    },
                    every=table.every,
                    file=table.cache,
                    first="required" if table.cache is None else "stale",
                    name=name,
                )
        except ValueError as error:
            self._problems.append(Problem(("sources", name, "query"), str(error)))
            return _NoList()
        return SnapshotList(self._snapshots[name], is_alias=is_alias)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Fetch the rows of all lists, and keep them up to date."""
        async with AsyncExitStack() as stack:
            for snapshot in self._snapshots.values():
                await stack.enter_async_context(snapshot)
            yield

    async def answer(self, decide: Callable[[], T], request: Request) -> T:
        """Return what ``decide`` returns, and ask the sources that its conditions need.

        It is called again after each answer, so it must have no effect where it raises.
        """
        answers = self._answers.setdefault(request, {})
        try:
            while True:
                try:
                    return decide()
                except LookupNeededError as needed:
                    found = await needed.list.lookup.ask(value=needed.value)
                    answers[needed.list, needed.value] = found
        finally:
            if answers:
                age = max(found.age for found in answers.values())
                request.annotate(source_age=round(age, 1))


class SnapshotList:
    """A list of all values of a column, in memory."""

    def __init__(self, snapshot: RowSnapshot[ByForm], *, is_alias: bool) -> None:
        self._snapshot = snapshot
        self._is_alias = is_alias
        self._normal = _normal(is_alias=is_alias)

    def has(self, value: Any, request: Request) -> bool:
        """Return whether the list has a value; raises ``DataUnavailableError``."""
        found = self._normal(value) in self._snapshot.value[self._is_alias]
        request.annotate(source_age=round(self._snapshot.age, 1))
        return found


class KeyList:
    """A list whose source is asked for each value."""

    def __init__(self, lookup: RowLookup, answers: Mapping[Request, Answers]) -> None:
        self.lookup = lookup
        self._answers = answers

    def has(self, value: Any, request: Request) -> bool:
        """Return whether the source has a row; raises ``LookupNeededError`` before it was asked."""
        text = str(value)
        found = self._answers.get(request, {}).get((self, text))
        if found is None:
            raise LookupNeededError(self, text)
        return bool(found.rows)


class _NoList:
    """The list of a query with an error, which is reported."""

    def has(self, value: Any, request: Request) -> bool:
        return False


def _normal(*, is_alias: bool) -> Callable[[object], str]:
    if is_alias:
        return lambda value: str(Alias(str(value)))
    return lambda value: str(value).casefold()


def _each(
    rows: list[dict[str, Any]], column: str | None, normal: Callable[[object], str]
) -> Iterator[str]:
    """Yield the values of a column; raises ``ValueError`` where there is no such column."""
    for row in rows:
        if column is None and len(row) > 1:
            names = ", ".join(row)
            raise ValueError(f"has the columns {names}: write one of them as column")
        found = next(iter(row.values()), None) if column is None else row.get(column)
        # An attribute of a directory has several values.
        for value in found if isinstance(found, list) else [found]:
            if value is not None and value != "":
                yield normal(value)
    if column is not None and rows and not any(column in row for row in rows):
        raise ValueError(f"has no column {column}; there are {', '.join(rows[0]) or 'none'}")
