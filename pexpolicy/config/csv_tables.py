"""CSV tables: reading and writing rows that a pydantic model describes.

The header names the fields of the model, in any order. The delimiter is ``,`` or ``;``, whichever
is more frequent in the header; text that contains it is in double quotes. An empty cell means the
default of its field. A field that is a list takes several values, separated by ``|``.
A ``'`` before ``=``, ``+``, ``-`` or ``@`` is not part of the text: it prevents a formula in a
spreadsheet.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_origin

import pydantic
from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from pexpolicy.config.files import (
    EncodingError,
    decode_text,
    read_file,
    track_file,
    why_unusable,
)
from pexpolicy.config.plugin_settings import ConfigPath
from pexpolicy.config.problems import PartError, problems_of
from pexpolicy.text import brief, suggest

LIST_SEPARATOR = "|"
"""The separator of the values of a list in one cell."""
_FORMULA = re.compile(r"'*[=+\-@]").match
"""Text that a spreadsheet executes as a formula, or that would become one when unescaped."""
_ESCAPED = re.compile(r"'+[=+\-@]").match
_DELIMITER = re.compile(r"sep=[,;]", re.IGNORECASE).match
"""A line before the header that names the delimiter."""


class TableRow(BaseModel):
    """The base of a row. It is not strict, because every cell of a CSV file is text."""

    model_config = ConfigDict(extra="forbid", frozen=True)


TableFile = ConfigPath
"""A setting that names a file, relative to the configuration file."""
R = TypeVar("R", bound=BaseModel)
_Columns = Mapping[str, tuple[str, FieldInfo]]
"""The name of each attribute, and its field, by the lower-case name in the header."""
_TEXT = FieldInfo(annotation=str, default="")


class Row(NamedTuple, Generic[R]):
    """One valid row and its place."""

    file: str
    line: int
    values: R

    def fault(self, text: str) -> str:
        """Return what is wrong with this row as a whole, after its place."""
        return in_line(self.file, self.line, text)


def in_line(file: str, line: int, text: str) -> str:
    """Return a text about a line of a file, counted from 1; 0 stands for the whole file."""
    return f"{file} line {line}: {text}" if line else text


class TableError(PartError, ValueError):
    """A table is invalid; each of the ``problems`` is a text with its line."""


def read_table(path: Path, model: type[R]) -> Iterator[Row[R]]:
    """Yield the rows of a CSV file in UTF-8, with or without a byte order mark.

    Blocks; for use while a policy is built. Raises ``TableError`` after the last valid row, or
    before the first one, for an unreadable file too.
    """
    return parse_table(read_text(path), model, path.name)


def parse_table(text: str, model: type[R], file: str) -> Iterator[Row[R]]:
    """Yield the rows of a table; ``file`` is its name in issues. Raises ``TableError``."""
    faults: list[str] = []
    for line, values in _rows(text, file, faults, _columns(model)):
        try:
            row = Row(file, line, model.model_validate(values))
        except pydantic.ValidationError as error:
            faults += [in_line(file, line, str(one)) for one in problems_of(error, model)]
        else:
            yield row
    if faults:
        raise TableError(*faults)


def read_cells(path: Path) -> list[dict[str, Any]]:
    """Read a CSV file with any columns: the cells that are not empty, by the lower-case names of
    their columns. Raises ``TableError``.
    """
    faults: list[str] = []
    rows = [cells for _, cells in _rows(read_text(path), path.name, faults, None)]
    if faults:
        raise TableError(*faults)
    return rows


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark, and track it.

    Blocks for 10 seconds at most. Raises ``TableError``.
    """
    track_file(path)
    try:
        return decode_text(read_file(path))
    except OSError as error:
        text = f"{path} cannot be read: {why_unusable(path, error)}"
        raise TableError(text) from None
    except EncodingError as error:
        raise TableError(f"{path.name} {error}") from None


def write_table(rows: Iterable[R], model: type[R]) -> str:
    """Return rows as the text of a CSV file with a header.

    Raises ``ValueError`` for a row that would be read back differently, such as one with an empty
    text in a field with another default.
    """
    written, columns, output = list(rows), _columns(model), io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(columns)
    for row in written:
        writer.writerow(_escaped_cell(getattr(row, name)) for name, _ in columns.values())
    text = output.getvalue()
    for row, back in zip(written, parse_table(text, model, "the CSV file"), strict=True):
        if lossy := [name for name, value in row if getattr(back.values, name) != value]:
            what = f"{', '.join(lossy)} of {brief(next(value for _, value in row))}"
            raise ValueError(f"a table cannot hold {what}: it would be read back differently")
    return text


def is_list(annotation: Any) -> bool:
    """Return whether it is a list, a tuple or a set, or one of them or ``None``."""
    origin = get_origin(annotation) or annotation
    if origin in (list, tuple, set, frozenset):
        return True
    return any(is_list(part) for part in get_args(annotation) if part is not type(None))


def _columns(model: type[BaseModel]) -> _Columns:
    fields = model.model_fields.items()
    return {(info.alias or name).lower(): (name, info) for name, info in fields}


def _rows(
    text: str, file: str, faults: list[str], columns: _Columns | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line of each row and its cells by the names of the model, or any names without one.

    What is wrong with the shape of a row is appended to ``faults``. Raises ``TableError`` for an
    invalid header.
    """
    records = _records(text, file, faults)
    line, header = next(records, (1, []))
    lower = [cell.lower() for cell in header]
    known = {name: (name, _TEXT) for name in lower} if columns is None else columns
    # ``Guest PIN`` is the column ``guest_pin``.
    names = [one if one in known else re.sub("[ \xa0]+", "_", one) for one in lower]
    while names and not names[-1]:
        names.pop()
    if not faults:
        faults += [in_line(file, line, one) for one in _header_faults(names, known)]
    if faults:
        raise TableError(*faults)
    fields = map(known.__getitem__, names)
    keys = [(info.alias or attribute, is_list(info.annotation)) for attribute, info in fields]
    for line, cells in records:
        # Before the cells, which an unquoted delimiter has moved; empty ones count as well.
        is_other = len(names) > 1 and not any(cells[1:]) and re.search(r"^#|[\t,;]", cells[0])
        if is_other or len(cells) > len(header) or any(cells[len(names) :]):
            text = f"it has {len(cells)} cells, and the header has {len(names)} columns"
            advice = "put text with , or ; in quotes"
            faults.append(in_line(file, line, f"is not a row: {text}; {advice}"))
            continue
        found = zip(keys, cells, strict=False)
        yield line, {key: _value(cell, is_many=many) for (key, many), cell in found if cell}


def _value(cell: str, *, is_many: bool) -> str | list[str]:
    text = cell[1:] if _ESCAPED(cell) else cell
    return [item.strip() for item in text.split(LIST_SEPARATOR)] if is_many else text


def _records(text: str, file: str, faults: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each line that is not blank, stripped, with the number of the line."""
    begin = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    delimiter = ";" if begin.count(";") > begin.count(",") else ","
    if _DELIMITER(begin):
        text = text.replace(begin.rstrip(), "", 1)
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=delimiter, strict=True, skipinitialspace=True)
    line = 1
    try:
        for record in reader:
            cells = [cell.strip() for cell in record]
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        why = "a quote is never closed" if "end of data" in str(error) else str(error)
        message = f"cannot be read ({why}); write a quote inside quoted text twice"
        faults.append(in_line(file, line, message))


def _header_faults(names: Sequence[str], columns: _Columns) -> Iterator[str]:
    """Yield what is wrong with the names of a header."""
    if any(names) and columns.keys().isdisjoint(names):
        few = ", ".join(list(columns)[:5])
        yield f"there is no column: name them in the first line, such as {few}, with , or ; between"
        return
    for number, name in enumerate(names, 1):
        if not name:
            yield f"column {number} has no name: name it, or delete the column"
        elif name not in columns:
            yield f"there is no column {brief(name)}{suggest(name, list(columns))}"
        elif name in names[: number - 1]:
            yield f"the column {name} appears twice: delete one"
    for name, (_, info) in columns.items():
        if info.is_required() and name not in names:
            yield f"the column {name} is missing"


def _escaped_cell(value: Any) -> str:
    """Return a cell with ``'`` before a text that a spreadsheet would execute."""
    cell = _cell(value)
    return f"'{cell}" if not isinstance(value, int | float) and _FORMULA(cell) else cell


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        return LIST_SEPARATOR.join(map(_cell, value))
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
