"""Copying a large document into memory of its own."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

Table = dict[str, Any]
Packed = list[bytes] | dict[str, "bytes | Packed"]
"""A table in pieces, or key by key."""
AT_ONCE = 500
"""Entries of a table that are copied in one piece."""


def compact_copy(document: Table) -> Table:
    """A copy that shares nothing with a document.

    Where nobody else holds the document, it is gone before the copy is made: then that lies close
    together, and not between holes. It is made piece by piece, so that other threads, which answer
    calls, need not wait for the whole. Each piece is packed for itself: what all of them remembered
    would be let go at the end, and leave a hole everywhere.
    """
    packed = _packed(document)
    del document
    return _unpacked(packed)


def _packed(table: Table) -> Packed:
    if len(table) <= AT_ONCE:
        return {
            key: _packed(value) if isinstance(value, dict) else pickle.dumps(value)
            for key, value in table.items()
        }
    entries = iter(table.items())
    pieces: list[bytes] = []
    while piece := dict(itertools.islice(entries, AT_ONCE)):
        pieces.append(pickle.dumps(piece))
    return pieces


def _unpacked(packed: Packed) -> Table:
    if isinstance(packed, dict):
        return {
            key: pickle.loads(part) if isinstance(part, bytes) else _unpacked(part)  # noqa: S301 - packed above
            for key, part in packed.items()
        }
    table: Table = {}
    for piece in packed:
        table |= pickle.loads(piece)  # noqa: S301 - packed above
    return table
