"""Compaction of a large parsed document in memory."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

Table = dict[str, Any]
Packed = list[bytes] | dict[str, "bytes | Packed"]
"""A pickled table: in batches, or key by key."""
BATCH = 500
"""Entries of a table that are pickled at a time."""


def compact_copy(document: Table) -> Table:
    """Return a deep copy of a document in contiguous memory.

    If the caller keeps no reference, the document is freed before the copy is made, so that the
    copy does not lie between the holes that parsing leaves. It is made in batches, so that other
    threads, which answer calls, run in between. Each batch is pickled separately: a common memo
    would leave a hole everywhere when it is freed.
    """
    packed = _pack(document)
    del document
    return _unpack(packed)


def _pack(table: Table) -> Packed:
    if len(table) <= BATCH:
        return {
            key: _pack(value) if isinstance(value, dict) else pickle.dumps(value)
            for key, value in table.items()
        }
    entries = iter(table.items())
    batches: list[bytes] = []
    while batch := dict(itertools.islice(entries, BATCH)):
        batches.append(pickle.dumps(batch))
    return batches


def _unpack(packed: Packed) -> Table:
    if isinstance(packed, dict):
        return {
            key: pickle.loads(part) if isinstance(part, bytes) else _unpack(part)  # noqa: S301 - packed above
            for key, part in packed.items()
        }
    table: Table = {}
    for batch in packed:
        table |= pickle.loads(batch)  # noqa: S301 - packed above
    return table
