"""Driver ``file``: rows in a CSV, TOML or JSON file."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple, Self

import orjson
import pydantic_core
from pydantic import model_validator
from typing_extensions import override

from pexpolicy import Alias, ConfigPath, SettingsError
from pexpolicy.config.csv_tables import TableError, read_cells, read_text
from pexpolicy.text import did_you_mean
from pexpolicy_sources.data_source import (
    Answer,
    DataSource,
    DataSourceSettings,
    Row,
    Value,
    rows_at,
    text_of,
    unknown_parameter,
)

_CONDITION = re.compile(r"\s*(\w[^=:]*?)\s*=\s*:(\w+)\s*").fullmatch
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)
_SUFFIXES = (".csv", ".json", ".toml")


class FileSettings(DataSourceSettings):
    """``[sources.NAME]`` with ``driver = "file"``."""

    path: ConfigPath
    """The file; its name ends in ``.csv``, ``.toml`` or ``.json``."""
    rows: str = ""
    """The place of the rows in TOML or JSON, such as ``data.rooms``."""

    @model_validator(mode="after")
    def _has_a_known_format(self) -> Self:
        suffix = self.path.suffix.lower()
        if suffix not in _SUFFIXES:
            raise ValueError(f"{self.path.name} is none of {', '.join(_SUFFIXES)}")
        if self.rows and suffix == ".csv":
            raise ValueError("rows is for TOML and JSON: a CSV file has rows only")
        return self


class Index(NamedTuple):
    """The rows of a file by the columns of a query."""

    parameters: tuple[str, ...]
    rows: Mapping[tuple[str, ...], Sequence[Row]]


class FileSource(DataSource[FileSettings, Index]):
    """A file that is read when the source is built, and again when it has changed.

    A query is ``COLUMN = :PARAMETER``, several of them joined by ``and``; an empty one takes all
    rows. Values are compared as aliases are, so ``Clinic@Example.com`` in the file is found.
    """

    Settings = FileSettings

    def __init__(self, settings: FileSettings) -> None:
        super().__init__(settings)
        self._rows = _read(settings)
        self._columns = list(dict.fromkeys(name for row in self._rows for name in row))

    @override
    def prepare(self, query: str, parameters: Collection[str]) -> Index:
        compared = [self._condition(part, parameters) for part in _AND.split(query) if query]
        rows: dict[tuple[str, ...], list[Row]] = {}
        for row in self._rows:
            if all(row.get(column) is not None for column, _ in compared):
                for key in set(product(*(_each(row[column]) for column, _ in compared))):
                    rows.setdefault(key, []).append(row)
        return Index(tuple(name for _, name in compared), rows)

    @override
    def _place(self) -> str:
        # A file that has changed is read at once, not after an interval.
        content = hashlib.sha256()
        for row in self._rows:
            content.update(repr(row).encode("utf-8", "backslashreplace"))
        return f"{super()._place()}\n{content.hexdigest()}"

    def _condition(self, written: str, parameters: Collection[str]) -> tuple[str, str]:
        match = _CONDITION(written)
        if match is None:
            raise ValueError('is no query of a file: write one such as "alias = :alias"')
        column, name = match.groups()
        if name not in parameters:
            raise unknown_parameter(":{}", name, parameters)
        if self._columns and column not in self._columns:
            guess = did_you_mean(column, self._columns)
            guess = guess or f"; there are {', '.join(self._columns)}"
            raise ValueError(f"has the column {column}, which the file does not have{guess}")
        return column, name

    @override
    async def fetch(
        self, query: Index, parameters: Mapping[str, Value], previous: Answer | None
    ) -> Answer:
        key = tuple(_comparable(parameters[name]) for name in query.parameters)
        return Answer(query.rows.get(key, ()))

    @override
    async def fetch_all(self, query: Index, previous: Answer | None) -> Answer:
        return Answer(query.rows.get((), ()))


def _read(settings: FileSettings) -> list[Row]:
    """Read and track the file; raises ``SettingsError``."""
    path = settings.path
    try:
        if path.suffix.lower() == ".csv":
            return list(read_cells(path))
        text = read_text(path)
    except TableError as error:
        raise SettingsError(problems=error.under(("path",))) from None
    is_json = path.suffix.lower() == ".json"
    try:
        document = orjson.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if is_json else "TOML"
        text = f"{path} is not {kind}: {error}"
        raise SettingsError(text, key="path") from None
    try:
        # TOML has dates and times, which JSON has not.
        return rows_at(pydantic_core.to_jsonable_python(document), settings.rows)
    except ValueError as error:
        raise SettingsError(f"{path}: {error}", key="rows") from None


def _each(value: Any) -> list[str]:
    """Return each of several values, such as the aliases of a room in JSON."""
    return [_comparable(one) for one in (value if isinstance(value, list) else [value])]


def _comparable(value: Value) -> str:
    return str(Alias(text_of(value)))
