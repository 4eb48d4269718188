"""Rows of a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Value = str | int | float | bool | None
"""A parameter of a query."""
Row = dict[str, Any]
"""The columns of a row by name; values are those of JSON."""


class Answer(NamedTuple):
    """What a source answers; no rows for a key that it does not have."""

    rows: Sequence[Row]
    etag: str = ""
    """The version of the rows, with which a source may say that they are the same."""


def rows_at(value: Any, place: str) -> list[Row]:
    """Return the rows in a document: one object, or a list of objects.

    ``place`` are the names of tables on the way, such as ``data.items``; empty: the document.
    Raises ``ValueError``.
    """
    for name in filter(None, place.split(".")):
        if not isinstance(value, dict) or name not in value:
            there = f"; there are {', '.join(value)}" if isinstance(value, dict) and value else ""
            raise ValueError(f"there is no {place}{there}")
        value = value[name]
    rows = [value] if isinstance(value, dict) else value
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise ValueError(f"{place or 'it'} is neither an object nor a list of objects")
    return rows
