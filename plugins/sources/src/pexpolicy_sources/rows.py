"""Rows of a source, and its failures."""

from __future__ import annotations

import os
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


MAX_TEXT = 200
"""Characters of a message."""


class SourceError(Exception):
    """A source gave no answer; the text has the reason, without credentials."""


class SourceUnavailableError(SourceError):
    """The source is down, does not answer in time, or refuses everything."""


class QueryError(SourceError):
    """The source refuses this query, or these parameters."""


def describe(error: Exception) -> str:
    """Return what a network error is: the messages of libraries name addresses, or nothing."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """Return a message of a library in one line of limited length."""
    return " ".join(text.split())[:MAX_TEXT]
