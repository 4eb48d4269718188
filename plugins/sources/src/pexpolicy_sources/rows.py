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
