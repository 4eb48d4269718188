"""Arrays of tables in TOML files, such as ``[[rules]]``, with line numbers."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pydantic
from pydantic import BaseModel

from pexpolicy.config.csv_tables import TableError, TableIssue, read_text
from pexpolicy.config.key_places import KeyPlaces, Span, key_places
from pexpolicy.config.plugin_settings import PluginSettings, read_settings
from pexpolicy.config.problems import Key, Problem, dotted_key, problems_of
from pexpolicy.config.toml_hints import AT, clean_message, suggest_fix
from pexpolicy.text import brief, did_you_mean

M = TypeVar("M", bound=BaseModel)


def read_tables(path: Path, name: str) -> tuple[list[Table], list[TableIssue]]:
    """Return the tables ``[[name]]`` of a file, and an issue for each other key of it.

    Blocks; for use while a policy is built. Raises ``TableError`` for a file that cannot be read or
    parsed.
    """
    return _tables(read_text(path).replace("\r\n", "\n"), name, path.name)


def validated(
    values: Mapping[str, Any], model: type[M], context: Mapping[str, object]
) -> tuple[M | None, list[Problem]]:
    """Validate a table; return the model, or ``None`` and all problems.

    ``context`` is passed to the validators of the model, such as ``{"root": ...}``.
    """
    try:
        if issubclass(model, PluginSettings):
            return read_settings(model, values, context), []
        return model.model_validate(values, context=context), []
    except pydantic.ValidationError as error:
        return None, problems_of(error, model)


def _tables(text: str, name: str, file: str) -> tuple[list[Table], list[TableIssue]]:
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise TableError([_not_toml(str(error), text, file)]) from None
    faults = [_misplaced(key, name, text, file) for key in document if key != name]
    tables = document.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        faults.append(TableIssue(file, 1, f"{name} must be tables, each below a line [[{name}]]"))
        raise TableError(faults)
    places = _places(text, name, len(tables))
    return [
        Table(file, values, place) for place, values in zip(places, tables, strict=True)
    ], faults


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a file, not validated."""

    file: str
    values: dict[str, Any]
    _place: _SourceLocation

    @property
    def line(self) -> int:
        """Line where it begins, counted from 1; 0 if unknown."""
        return self._place.line

    def fault(self, key: Key, text: str) -> TableIssue:
        """Return an issue on the line of a key."""
        return self._place.fault(self.file, key, text)


@dataclass(frozen=True, slots=True)
class _SourceLocation:
    """The place of a table: its key, its first line, counted from 1, and the text around it."""

    key: Key
    line: int
    text: _SourceText

    def fault(self, file: str, key: Key, text: str) -> TableIssue:
        message = f"{dotted_key(key)}: {text}" if key else text
        line = self.line if not key else self.text.line_of((*self.key, *key)) or self.line
        if not line:
            return TableIssue(file, 0, f"{file}: {dotted_key(self.key)}: {message}")
        return TableIssue(file, line, message)


class _SourceText:
    """The text of a file. The places of its keys are found when the first one is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._places: Mapping[Key, Span] | None = None

    def line_of(self, key: Key) -> int:
        """Return the line of a key, or of the innermost table around it; 0 if unknown."""
        if self._places is None:
            try:
                found = key_places(self._text)
            except (AssertionError, IndexError, RecursionError):
                found = KeyPlaces()
            self._places = found.values | found.keys
        path: Key = ()
        for part in key:
            # Parts that only the model has, such as the kind of a condition, are skipped.
            path = (*path, part) if (*path, part) in self._places else path
        place = self._places.get(path)
        return 0 if place is None else self._text.count("\n", 0, place[0]) + 1


def _places(text: str, name: str, count: int) -> list[_SourceLocation]:
    """Return the place of each table; line 0 if the headers are not written as usual."""
    header = re.compile(rf"[ \t]*\[\[[ \t]*{re.escape(name)}[ \t]*\]\]")
    starts = [n for n, line in enumerate(text.split("\n"), 1) if header.match(line)]
    source = _SourceText(text)
    if len(starts) != count:
        starts = [0] * count
    return [_SourceLocation((name, n), line, source) for n, line in enumerate(starts)]


def _misplaced(key: str, name: str, text: str, file: str) -> TableIssue:
    found = re.search(rf"^[ \t]*\[*[ \t]*[\"']?{re.escape(key)}\b", text, re.MULTILINE)
    line = text.count("\n", 0, found.end()) + 1 if found else 1
    guess = did_you_mean(key, [name]) or f"; each table is written below a line [[{name}]]"
    return TableIssue(file, line, f"{brief(key)} has no meaning in this file{guess}")


def _not_toml(message: str, text: str, file: str) -> TableIssue:
    found = AT.search(message)
    why = AT.sub("", clean_message(message)) + suggest_fix(message, text)
    return TableIssue(file, int(found[1]) if found else 1, f"is not valid TOML: {why}")
