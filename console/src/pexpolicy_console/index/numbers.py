"""Numbers of calls, and of the hits of rules, in any span of time."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from pexpolicy_console.index.calls import decode_call
from pexpolicy_console.index.lines import Facts
from pexpolicy_console.index.reader import IndexReader, Names
from pexpolicy_console.index.writer import ALL, CALL, MINUTE_MS, QUARTER_MS, RULE

KINDS = (*Facts._fields, "all", "rule")
"""What calls are counted by. Rules count requests: a call may be decided by several."""
_SUM = "SELECT value, result, sum(count), max(last) FROM"
_WHOLE = "SELECT value, result, count, last FROM quarter WHERE kind = ? AND at >= ? AND at < ?"
_PART = "SELECT {} AS value, result, 1 AS count, at AS last FROM {} WHERE at >= ? AND at < ? AND {}"


@dataclass(slots=True)
class Tally:
    """How many calls had each of ``RESULTS``."""

    counts: list[int] = field(default_factory=lambda: [0, 0, 0])
    last: int = 0
    """The time of the last one, in milliseconds."""

    @property
    def total(self) -> int:
        """All calls."""
        return sum(self.counts)

    def add(self, result: int, count: int, last: int) -> None:
        """Count calls."""
        self.counts[result] += count
        self.last = max(self.last, last)


Tallies = dict[str, Tally]


def since(reader: IndexReader) -> int | None:
    """Return the time of the first line that is counted; ``None`` without one."""
    firsts = [base.execute("SELECT min(at) FROM line").fetchone()[0] for base in reader.bases()]
    return min((first for first in firsts if first is not None), default=None)


def tallies(reader: IndexReader, kind: str, bounds: Sequence[int]) -> list[Tallies]:
    """Count the calls between each two of ``bounds``, in milliseconds, by the value of a kind."""
    found: list[Tallies] = [{} for _ in bounds[1:]]
    number = KINDS.index(kind)
    for place, base in enumerate(reader.bases()):
        names = Names(base)
        for tally, (start, end) in zip(found, pairwise(bounds), strict=True):
            for value, *counted in _closed(base, number, start, end):
                tally.setdefault(names[value], Tally()).add(*counted)
        # Calls that have not ended are in the newest segment.
        if place == 0 and number != RULE:
            for (content,) in base.execute("SELECT call FROM open"):
                call = decode_call(content)
                slot = bisect_right(bounds, call.at) - 1
                text = "" if number == ALL else call.facts[number]
                if 0 <= slot < len(found) and (text or number == ALL):
                    found[slot].setdefault(text, Tally()).add(call.result, 1, call.at)
    return found


def latencies(reader: IndexReader, spans: Sequence[tuple[int, int]]) -> list[Counter[int]]:
    """Count the requests of spans of minutes by bucket of their duration."""
    found = [Counter[int]() for _ in spans]
    for base in reader.bases():
        for buckets, (start, end) in zip(found, spans, strict=True):
            rows = base.execute(
                "SELECT bucket, sum(count) FROM minute JOIN name ON name.id = kind "
                "WHERE at >= ? AND at < ? AND text = ? GROUP BY bucket",
                (start // MINUTE_MS, end // MINUTE_MS, CALL),
            )
            buckets.update(dict(rows.fetchall()))
    return found


def _closed(
    base: sqlite3.Connection, kind: int, start: int, end: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yield value, result, count and last time: of whole quarters of an hour, and of the rest."""
    first, last = -(-start // QUARTER_MS), end // QUARTER_MS
    if kind == RULE:
        part = _PART.format("rule", "line", "rule")
    elif kind == ALL:
        part = _PART.format("0", "call", "1")
    else:
        part = _PART.format(KINDS[kind], "call", KINDS[kind])
    if first >= last:
        parts: list[str] = [part]
        values: list[Any] = [start, end]
    else:
        parts = [_WHOLE, part, part]
        values = [kind, first, last, start, first * QUARTER_MS, last * QUARTER_MS, end]
    # All parts of the statement are literals of this module; values are bound.
    statement = f"{_SUM} ({' UNION ALL '.join(parts)}) GROUP BY value, result"
    return iter(base.execute(statement, values))
