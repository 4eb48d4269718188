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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_origin

import pydantic
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from pexpolicy.config.files import (
    EncodingError,
    decode_text,
    read_file,
    track_file,
    why_unusable,
)
from pexpolicy.config.plugin_settings import ConfigPath
from pexpolicy.config.problems import Key, Problem, problems_of
from pexpolicy.text import brief, suggest

LIST_SEPARATOR = "|"
"""The separator of the values of a list in one cell."""
_FORMULA = re.compile(r"'*[=+\-@]").match
"""Text that a spreadsheet executes as a formula, or that would become one when unescaped."""
_ESCAPED = re.compile(r"'+[=+\-@]").match
_FAILED = re.compile(
    r"#(?:[A-ZÀ-Þ_/0]+[!?]|N/A|NV|N/V)|=\$?[A-Z]{1,3}\$?\d+\b.*|=[A-Z.]{2,}\(.*"
).fullmatch
"""A formula, or what a spreadsheet saves for one that has failed."""
_DELIMITER = re.compile(r"sep=([,;])\s*\Z", re.IGNORECASE).match
"""Matches the line of Excel that names the delimiter, before the header."""


class TableRow(BaseModel):
    """The base of a row. It is not strict, because every cell of a CSV file is text."""

    model_config = ConfigDict(extra="forbid", frozen=True)


TableFile = ConfigPath
"""A setting that names a file, relative to the configuration file."""
R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class TableIssue:
    """One error in a table, with its line, counted from 1; 0 stands for the whole file."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file} line {self.line}: {self.text}" if self.line else self.text


@dataclass(frozen=True, slots=True)
class Row(Generic[R]):
    """One valid row and its place."""

    file: str
    line: int
    values: R

    def fault(self, text: str) -> TableIssue:
        """Return an issue of this row as a whole, whose cells are valid."""
        return TableIssue(self.file, self.line, text)


class TableError(ValueError):
    """A table is invalid; ``faults`` holds every issue that was found."""

    def __init__(self, faults: Sequence[TableIssue]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)

    def under(self, key: Key) -> list[Problem]:
        """Return the issues as problems of the setting that names the file."""
        return [Problem(key, str(fault)) for fault in self.faults]


def read_table(path: Path, model: type[R]) -> list[Row[R]]:
    """Read a CSV file in UTF-8, with or without a byte order mark.

    Blocks; for use while a policy is built. Raises ``TableError``, for an unreadable file too.
    """
    return list(iterate_table(path, model))


def iterate_table(path: Path, model: type[R]) -> Iterator[Row[R]]:
    """Yield the rows of a CSV file one by one, for large files; else as ``read_table``.

    Raises ``TableError`` after the last valid row, or before the first one.
    """
    return _parse(read_text(path, "CSV UTF-8"), model, path.name)


def read_text(path: Path, save_as: str = "UTF-8") -> str:
    """Read a text file in UTF-8, with or without a byte order mark, and track it.

    Blocks for 10 seconds at most. Raises ``TableError``; ``save_as`` is the encoding that it
    advises.
    """
    track_file(path)
    try:
        return decode_text(read_file(path))
    except OSError as error:
        text = f"{path} cannot be read: {why_unusable(path, error)}"
        raise TableError([TableIssue(path.name, 0, text)]) from None
    except EncodingError as error:
        text = error.text.replace("save the file as UTF-8", f"save the file as {save_as}")
        raise TableError([TableIssue(path.name, error.line or 1, text)]) from None


def parse_table(text: str, model: type[R], file: str) -> list[Row[R]]:
    """Parse a table; ``file`` is its name in issues. Raises ``TableError``."""
    return list(_parse(text, model, file))


def _parse(text: str, model: type[R], file: str) -> Iterator[Row[R]]:
    faults: list[TableIssue] = []
    records = _records(text, file, faults)
    columns = _columns(model)
    names = _names(records, columns, file, faults)
    for line, cells in records:
        if message := _wrong_shape(names, cells, columns):
            faults.append(TableIssue(file, line, message))
            continue
        try:
            values = model.model_validate(_cell_values(names, cells, columns))
        except pydantic.ValidationError as error:
            faults += [TableIssue(file, line, str(one)) for one in problems_of(error, model)]
        else:
            yield Row(file, line, values)
    if faults:
        raise TableError(faults)


def read_cells(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with any columns: the cells that are not empty, by the lower-case names of
    their columns; else as ``read_table``.
    """
    text = read_text(path, "CSV UTF-8")
    _, header = next(_records(text, path.name, []), (1, []))
    columns: dict[str, Any] = {
        f"column_{number}": (str | None, Field(None, alias=name.lower()))
        for number, name in enumerate(header)
    }
    model = pydantic.create_model("Cells", __base__=TableRow, **columns)
    rows = parse_table(text, model, path.name)
    return [row.values.model_dump(by_alias=True, exclude_none=True) for row in rows]


def write_table(rows: Iterable[R], model: type[R], delimiter: str = ",") -> str:
    """Return rows as the text of a CSV file with a header.

    Raises ``ValueError`` for a row that would be read back differently, such as one with an empty
    text in a field with another default.
    """
    columns = _columns(model)
    output = io.StringIO()
    writer = csv.writer(output, delimiter=delimiter, lineterminator="\n")
    # Before Python 3.13 the csv module does not quote a carriage return.
    quoting = csv.writer(output, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    for row in rows:
        cells = [_escaped_cell(getattr(row, field.attribute)) for field in columns.values()]
        _refuse_lossy(row, model, _cell_values(list(columns), [c.strip() for c in cells], columns))
        (quoting if any("\r" in cell for cell in cells) else writer).writerow(cells)
    return output.getvalue()


@dataclass(frozen=True, slots=True)
class _Column:
    attribute: str
    info: FieldInfo
    is_list: bool


def _columns(model: type[BaseModel]) -> dict[str, _Column]:
    """Return the columns of a model by their lower-case names in the header."""
    return {
        (info.alias or name).lower(): _Column(name, info, is_list(info.annotation))
        for name, info in model.model_fields.items()
    }


def is_list(annotation: Any) -> bool:
    """Return whether it is a list, a tuple or a set, or one of them or ``None``."""
    origin = get_origin(annotation) or annotation
    if origin in (list, tuple, set, frozenset):
        return True
    return any(is_list(part) for part in get_args(annotation) if part is not type(None))


def _records(text: str, file: str, faults: list[TableIssue]) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each line that is not blank, stripped, with the number of the line."""
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    declared = _DELIMITER(header)
    delimiter = ";" if header.count(";") > header.count(",") else ","
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=delimiter, strict=True, skipinitialspace=True)
    line = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            while stripped and not stripped[-1]:
                stripped.pop()
            if stripped and declared is None:
                yield line, stripped
            elif stripped:
                declared = None
            line = reader.line_num + 1
    except csv.Error as error:
        why = "a quote is never closed" if "end of data" in str(error) else str(error)
        message = f"cannot be read ({why}); write a quote inside quoted text twice"
        faults.append(TableIssue(file, line, message))


def _names(
    records: Iterator[tuple[int, list[str]]],
    columns: Mapping[str, _Column],
    file: str,
    faults: list[TableIssue],
) -> list[str]:
    """Return the lower-case names in the header; raises ``TableError`` for an invalid header."""
    line, header = next(records, (1, []))
    names = _names_in(header, columns)
    if not faults:
        faults += [TableIssue(file, line, text) for text in _header_faults(names, columns)]
    if faults:
        raise TableError(faults)
    return names


def _names_in(cells: Sequence[str], columns: Mapping[str, _Column]) -> list[str]:
    """Return the names in a header in lower case; ``Guest PIN`` is the column ``guest_pin``."""
    lower = [cell.lstrip("\ufeff").lower() for cell in cells]
    return [one if one in columns else re.sub("[ \N{NO-BREAK SPACE}]+", "_", one) for one in lower]


def _header_faults(names: Sequence[str], columns: Mapping[str, _Column]) -> Iterator[str]:
    """Yield what is wrong with the names of a header."""
    if len(names) == 1 and re.search(r"[\t,;|<]", names[0]):
        yield "is one cell: save the file as CSV, with , or ; between the columns"
        return
    for number, name in enumerate(names, 1):
        if not name:
            yield f"column {number} has no name: name it, or delete the column"
        elif name not in columns:
            meant = suggest(re.sub(r"[\W_]+", "_", name).strip("_"), list(columns))
            yield f"there is no column {brief(name)}{meant}"
        elif name in names[: number - 1]:
            yield f"the column {name} appears twice: delete one"
    for name, column in columns.items():
        if column.info.is_required() and name not in names:
            yield f"the column {name} is missing"


def _wrong_shape(names: Sequence[str], cells: Sequence[str], columns: Mapping[str, _Column]) -> str:
    """Return why a line is not a row under a header with these names, or nothing."""
    if (excess := len(cells) - len(names)) > 0:
        return f"has {excess} cells more than columns; put text with , or ; in quotes"
    if _names_in(cells, columns) == names:
        return "is the header again, as where files were joined: delete the line"
    if len(cells) == 1 < len(names) and re.search(r"^#|[\t,;]", cells[0]):
        return f"is not a row: it has one cell, and the header has {len(names)}"
    for name, cell in zip(names, cells, strict=False):
        if _FAILED(cell):
            return f"{name}: is a formula, or the error of one: save the values of the spreadsheet"
    return ""


def _cell_values(
    names: Sequence[str], cells: Sequence[str], columns: Mapping[str, _Column]
) -> dict[str, Any]:
    """Return the cells that are not empty, by the names that the model validates."""
    values: dict[str, Any] = {}
    for name, escaped in zip(names, cells, strict=False):
        if escaped:
            cell = escaped[1:] if _ESCAPED(escaped) else escaped
            column = columns[name]
            key = column.info.alias or column.attribute
            values[key] = (
                [item.strip() for item in cell.split(LIST_SEPARATOR)] if column.is_list else cell
            )
    return values


def _escaped_cell(value: Any) -> str:
    """Return a cell with ``'`` before a text that a spreadsheet would execute."""
    cell = _cell(value)
    return f"'{cell}" if not isinstance(value, int | float) and _FORMULA(cell) else cell


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | set | frozenset):
        return LIST_SEPARATOR.join(_cell(item) for item in value)
    return str(value)


def _refuse_lossy(row: BaseModel, model: type[BaseModel], cells: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` with the first cell and names of others, as those may be PINs."""
    try:
        read = dict(model.model_validate(cells))
        lossy = [name for name, value in row if read[name] != value]
    except pydantic.ValidationError as error:
        lossy = [str(place) for found in error.errors() for place in found["loc"][:1]] or ["it"]
    if lossy:
        at = brief(next(value for _, value in row))
        msg = f"a table cannot hold {', '.join(lossy)} of {at}: it would be read back differently"
        raise ValueError(msg)
