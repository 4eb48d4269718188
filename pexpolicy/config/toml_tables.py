"""Arrays of tables in TOML files, such as ``[[rules]]``, with line numbers."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pydantic
from pydantic import BaseModel

from pexpolicy.config.csv_tables import TableError, TableIssue, read_text
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
    """The place of a table: its first line, counted from 1, and all of its lines."""

    called: str
    line: int
    lines: Sequence[str]

    def fault(self, file: str, key: Key, text: str) -> TableIssue:
        message = f"{dotted_key(key)}: {text}" if key else text
        if not self.line:
            return TableIssue(file, 0, f"{file}: {self.called}: {message}")
        return TableIssue(file, self.line + self._offset(key), message)

    def _offset(self, key: Key) -> int:
        """Return the offset in lines of a key from the header of its table; 0 if unknown."""
        for part in reversed([part for part in key if isinstance(part, str)]):
            pattern = re.compile(rf'(?:^|[\s.\[{{,"\']){re.escape(part)}["\']?\s*[.=\]]')
            for number, line in enumerate(self.lines):
                if pattern.search(line.partition("#")[0]):
                    return number
        return 0


def _places(text: str, name: str, count: int) -> list[_SourceLocation]:
    """Return the place of each table; line 0 if the headers are not written as usual."""
    header = re.compile(rf"[ \t]*\[\[[ \t]*{re.escape(name)}[ \t]*\]\]")
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if header.match(line)]
    if len(starts) != count:
        return [_SourceLocation(f"{name}[{number}]", 0, ()) for number in range(count)]
    ends = [*starts[1:], len(lines)]
    return [
        _SourceLocation(f"{name}[{number}]", start + 1, lines[start:end])
        for number, (start, end) in enumerate(zip(starts, ends, strict=False))
    ]


def _misplaced(key: str, name: str, text: str, file: str) -> TableIssue:
    found = re.search(rf"^[ \t]*\[*[ \t]*[\"']?{re.escape(key)}\b", text, re.MULTILINE)
    line = text.count("\n", 0, found.end()) + 1 if found else 1
    guess = did_you_mean(key, [name]) or f"; each table is written below a line [[{name}]]"
    return TableIssue(file, line, f"{brief(key)} has no meaning in this file{guess}")


def _not_toml(message: str, text: str, file: str) -> TableIssue:
    found = AT.search(message)
    why = AT.sub("", clean_message(message)) + suggest_fix(message, text)
    return TableIssue(file, int(found[1]) if found else 1, f"is not valid TOML: {why}")
