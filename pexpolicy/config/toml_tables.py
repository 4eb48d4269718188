"""Arrays of tables in TOML files of their own, read with the line of each: ``[[rules]]``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pydantic
from pydantic import BaseModel

from pexpolicy.config.csv_tables import TableError, TableIssue
from pexpolicy.config.encodings import EncodingError, decoded
from pexpolicy.config.file_tracking import track_file
from pexpolicy.config.problems import Key, Problem, dotted_key, problems_of
from pexpolicy.config.toml_hints import AT, clean_message, suggest_fix
from pexpolicy.text import brief, did_you_mean

M = TypeVar("M", bound=BaseModel)


def read_tables(path: Path, name: str) -> tuple[list[Table], list[TableIssue]]:
    """The tables ``[[name]]`` of a file as they are written, and faults for what else it holds.

    Blocks; for the building of a policy. Raises ``TableError`` for a file in which no table can be
    found, an unreadable one too.
    """
    track_file(path)
    try:
        text = decoded(path.read_bytes()).replace("\r\n", "\n")
    except OSError as error:
        raise TableError(
            [TableIssue(path.name, 0, f"{path} cannot be read: {error.strerror}")]
        ) from None
    except EncodingError as error:
        raise TableError([TableIssue(path.name, error.line or 1, error.text)]) from None
    return _tables(text, name, path.name)


def validated(
    values: Mapping[str, Any], model: type[M], context: Mapping[str, object]
) -> tuple[M | None, list[Problem]]:
    """A table as a model has it, or all that is wrong with it.

    ``context`` is what the validators of the model are told, such as ``{"root": ...}``.
    """
    try:
        return model.model_validate(values, context=context), []
    except pydantic.ValidationError as error:
        return None, problems_of(error, model)


def _tables(text: str, name: str, file: str) -> tuple[list[Table], list[TableIssue]]:
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
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
    """One table of a file, as it is written."""

    file: str
    values: dict[str, Any]
    _place: _SourceLocation

    @property
    def line(self) -> int:
        """Where it begins, counted from 1; 0 if that cannot be told."""
        return self._place.line

    def fault(self, key: Key, text: str) -> TableIssue:
        """Something that is wrong with it, on the line of the key."""
        return self._place.fault(self.file, key, text)


@dataclass(frozen=True, slots=True)
class _SourceLocation:
    """Where a table stands: its first line, counted from 1, and all of its lines."""

    called: str
    line: int
    lines: Sequence[str]

    def fault(self, file: str, key: Key, text: str) -> TableIssue:
        said = f"{dotted_key(key)}: {text}" if key else text
        if not self.line:
            return TableIssue(file, 0, f"{file}: {self.called}: {said}")
        return TableIssue(file, self.line + self._offset(key), said)

    def _offset(self, key: Key) -> int:
        """How many lines below its header a key of the table stands; 0 if that cannot be told."""
        for part in reversed([part for part in key if isinstance(part, str)]):
            written = re.compile(rf'(?:^|[\s.\[{{,"\']){re.escape(part)}["\']?\s*[.=\]]')
            for number, line in enumerate(self.lines):
                if written.search(line.partition("#")[0]):
                    return number
        return 0


def _places(text: str, name: str, count: int) -> list[_SourceLocation]:
    """Where each table stands; line 0 where the file has them in another form than is usual."""
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
    guess = did_you_mean(key, [name]) or f"; each table of it stands below a line [[{name}]]"
    return TableIssue(file, line, f"{brief(key)} has no meaning in this file{guess}")


def _not_toml(said: str, text: str, file: str) -> TableIssue:
    found = AT.search(said)
    why = AT.sub("", clean_message(said)) + suggest_fix(said, text)
    return TableIssue(file, int(found[1]) if found else 1, f"is not valid TOML: {why}")
