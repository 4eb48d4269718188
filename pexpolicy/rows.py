"""Sources of rows: what plugins ask by key, or take all rows of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self, TypeVar, runtime_checkable

from pydantic import BaseModel, Field, ValidationError, model_validator

from pexpolicy.background.sources import Source
from pexpolicy.config.csv_tables import LIST_SEPARATOR, TableError, TableRow, is_list, read_table
from pexpolicy.config.plugin_settings import ConfigPath, PluginSettings
from pexpolicy.config.problems import Key, Problem, SettingsError
from pexpolicy.endpoints.decision_fields import RowValues
from pexpolicy.log import get_logger

__all__ = ["RowLookup", "RowSettings", "RowSnapshot", "RowSource", "RowValues", "listed_rows"]
__all__ += ["FoundRows", "read_rows", "report_left_out"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound=TableRow)


class RowSnapshot(AbstractAsyncContextManager[Any], Protocol[T_co]):
    """All rows of a query, converted, and fetched again at an interval."""

    @property
    def value(self) -> T_co:
        """What was made of the rows; raises ``DataUnavailableError`` if there are none yet."""

    @property
    def age(self) -> float:
        """Seconds since the rows were fetched."""


class FoundRows(Protocol):
    """The rows of a key."""

    @property
    def rows(self) -> Sequence[dict[str, Any]]:
        """None if the source does not have it."""

    @property
    def age(self) -> float:
        """Seconds since the source answered."""


class RowLookup(Protocol):
    """A query that is asked by key."""

    async def ask(self, **parameters: str | float | None) -> FoundRows:
        """Return the rows for the parameters of the query; raise what the source raises."""


@runtime_checkable
class RowSource(Protocol):
    """A source of rows: values of JSON by the names of columns."""

    def lookup(
        self, query: str, parameters: Sequence[str], *, entries: int | None = None
    ) -> RowLookup:
        """Return a query that is asked by key; raises ``ValueError`` for one with an error.

        At most ``entries`` answers are kept, if the source keeps more.
        """
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
    ) -> RowSnapshot[T]:
        """Return all rows of a query; raises ``ValueError`` for one with an error.

        ``convert`` runs in a thread; it may refuse rows with ``ValueError``. ``file`` keeps the
        rows. ``first``, ``name`` and ``every`` are those of ``Refreshed``.
        """
        ...


class RowSettings(PluginSettings):
    """The keys of a plugin that takes all rows of a query, if ``source`` is set."""

    source: Source[RowSource] | None = None
    """NAME of a table ``[sources.NAME]``."""

    query: str | None = None
    """What the source is asked."""

    every: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between two queries."""

    cache: ConfigPath | None = None
    """A file that keeps the rows for a start without the source."""

    @model_validator(mode="after")
    def _has_a_query_for_its_source(self) -> Self:
        if (self.source is None) != (self.query is None):
            missing = "source" if self.source is None else "query"
            raise ValueError(f"{missing} is missing: source and query go together")
        if self.cache is not None and self.source is None:
            raise ValueError("cache belongs to a source")
        return self

    def snapshot(
        self,
        convert: Callable[[list[dict[str, Any]]], T],
        name: str,
        needs: Iterable[Collection[str]] = (),
    ) -> RowSnapshot[T] | None:
        """Return the rows, converted; ``None`` without a source. Raises ``SettingsError``.

        Of each of ``needs`` the query must have one column, if its columns are known.
        """
        if self.source is None or self.query is None:
            return None
        try:
            made = self.source.snapshot(
                self.query,
                convert,
                every=self.every,
                file=self.cache,
                first="required" if self.cache is None else "stale",
                name=name,
            )
        except ValueError as error:
            raise SettingsError(str(error), key="query") from None
        columns: Sequence[str] = ()
        with suppress(Exception):  # a database may be down, or the driver not know them
            columns = getattr(self.source, "columns")(self.query)  # noqa: B009 - not of all
        lost = [" or ".join(one) for one in needs if columns and not set(one) & set(columns)]
        if lost:
            found = ", ".join(columns)
            text = f"has no column {' and no '.join(lost)}; it has {found}: name its columns so"
            raise SettingsError(text, key="query")
        return made


class RefusedRowsError(ValueError):
    """No row of a source is right. The text says it all, so the log has no traceback."""

    explains_itself = True


def report_left_out(what: str, problems: Sequence[str], *, is_empty: bool) -> None:
    """Log the rows that are left out; raise ``RefusedRowsError`` if no row is right."""
    if problems and is_empty:
        raise RefusedRowsError(f"no row of the {what} is right; {problems[0]}")
    if problems:
        get_logger().warning(f"{what} are left out", rows=len(problems), first=problems[0])


def read_rows(
    rows: Iterable[dict[str, Any]], model: type[M], problems: list[str]
) -> Iterator[tuple[int, M]]:
    """Yield the models of rows, each with the number of its row; append what is wrong with others.

    Other columns are ignored, and empty values are unset. Text in a field with several values is
    split as in a CSV file.
    """
    fields = {name: is_list(field.annotation) for name, field in model.model_fields.items()}
    for number, row in enumerate(rows, 1):
        values = {name: row[name] for name in fields if row.get(name) not in (None, "")}
        for name, value in values.items():
            if fields[name] and isinstance(value, str):
                values[name] = [part.strip() for part in value.split(LIST_SEPARATOR)]
        try:
            yield number, model.model_validate(values)
        except ValidationError as error:
            # The values may be passwords.
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = "".join(f"{part}: " for part in first["loc"])
            problems.append(f"row {number}: {place}{first['msg']}")


def listed_rows(
    name: str, written: Iterable[R], file: Path | None, model: type[R], problems: list[Problem]
) -> Iterator[tuple[Key, R]]:
    """Yield the rows of a setting and those of the file in ``csv``, each with its key.

    What is wrong with the file is appended to ``problems``.
    """
    for number, row in enumerate(written):
        yield (name, number), row
    try:
        for found in () if file is None else read_table(file, model):
            yield ("csv", f"{found.file} line {found.line}"), found.values
    except TableError as error:
        problems += error.under(("csv",))
