"""The export of a server that routes policy requests: a table of requests and replies as CSV."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import quote, urlencode

PATH_COLUMNS = ("request_path", "path")
_PARAMETERS = ("request_params", "params", "parameters")
_RESPONSES = ("response_body", "response", "override_response")
_STATUSES = ("response_status", "status")
_TIMES = ("created_at", "timestamp", "time")
_SOURCES = ("source_host", "source")
MAX_CELL = 1 << 20
"""Characters of a cell; replies may be longer than what the module ``csv`` reads by default."""


def json_lines(text: IO[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row as a record with its line number; raise ``csv.Error``.

    A record has ``url``, ``time``, ``peer``, ``status`` and ``body``, what the row has of them.
    """
    header = text.readline()
    delimiter = ";" if header.count(";") > header.count(",") else ","
    columns = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter))]
    reader = csv.reader(text, delimiter=delimiter)
    line = 2
    while (cells := _next_row(reader)) is not None:
        row = dict(zip(columns, cells, strict=False))
        if cells:
            yield line, _record(row)
        line = reader.line_num + 2


def _next_row(reader: Iterator[list[str]]) -> list[str] | None:
    """Return the next row, whose cells may have ``MAX_CELL`` characters; ``None`` at the end."""
    # The module has one limit for all readers of the process.
    others = csv.field_size_limit(MAX_CELL)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(others)


def _record(row: dict[str, str]) -> dict[str, Any]:
    written = _first(row, _PARAMETERS)
    parameters = _decoded(written)
    path = quote(_first(row, PATH_COLUMNS), safe="/%:@+?=&;,~")
    record: dict[str, Any] = {
        "url": path,
        "time": _first(row, _TIMES),
        "peer": _first(row, _SOURCES) or None,
        "status": _first(row, _STATUSES),
        "body": _decoded(_first(row, _RESPONSES)),
    }
    if isinstance(parameters, dict):
        record["url"] = f"{path}?{urlencode(parameters, doseq=True)}"
    elif "?" not in path:
        record["cut"] = "the row has no parameters"
    return record


def _first(row: dict[str, str], names: tuple[str, ...]) -> str:
    return next((row[name].strip() for name in names if row.get(name)), "")


def _decoded(cell: str) -> Any:
    """Return a cell as JSON, or as the text of a Python value, which such servers store too.

    ``None`` for any other, and for a value that JSON does not have.
    """
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(cell)
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        return value
    return None
