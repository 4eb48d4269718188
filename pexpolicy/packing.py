"""Copying a large document into memory of its own."""

from __future__ import annotations

import io
import itertools
import pickle
from collections.abc import Callable
from typing import Any

Table = dict[str, Any]
AT_ONCE = 500
"""Entries of a table that are copied in one piece."""


def repacked(document: Table) -> Table:
    """A copy that shares nothing with a document, and in which equal keys are one.

    It is made piece by piece: other threads, which answer calls, need not wait for the whole.
    """
    stream = io.BytesIO()
    # What both have seen they remember: a key that comes again is one number on the way.
    write, read = pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL), pickle.Unpickler(stream)  # noqa: S301 - it is our own

    def copy(value: Any) -> Any:
        stream.seek(0)
        stream.truncate()
        write.dump(value)
        stream.seek(0)
        return read.load()

    return _copied(document, copy)


def _copied(table: Table, copy: Callable[[Any], Any]) -> Table:
    if len(table) <= AT_ONCE:
        return {
            copy(key): _copied(value, copy) if isinstance(value, dict) else copy(value)
            for key, value in table.items()
        }
    copied: Table = {}
    entries = iter(table.items())
    while some := dict(itertools.islice(entries, AT_ONCE)):
        copied |= copy(some)
    return copied
