"""The reader of the index: searches its segments, the newest first."""

from __future__ import annotations

import re
import sqlite3
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from pexpolicy.audit.reader import open_file
from pexpolicy.audit.redaction import Personal
from pexpolicy.cli.for_console import Database
from pexpolicy_console.index.audit_files import UNREADABLE, AuditFiles
from pexpolicy_console.index.calls import SAME_CALL_MS, decode_call
from pexpolicy_console.index.lines import RESULTS, Event, Facts, decode, folded, id_tail, word
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.writer import (
    ALL,
    CALL,
    MINUTE_MS,
    QUARTER_MS,
    RULE,
    bucket_bounds,
    segments,
)

COLUMNS: tuple[str, ...] = ("result", "event", "endpoint", "action", "decided_by", "reason")
COLUMNS += ("location", "node", "instance", "policy")
"""The columns that are counted."""
COUNTED_LINES = 20_000
"""Lines whose columns are counted, at most."""
LINES_OF_CALLS = 1000
"""Lines in which all those of the calls at the edge of a page are looked for."""
MAX_TERMS = 2000
"""Words that a part of one may stand for, the shortest of all: names have one of each part."""
ID_MS = 60_000
"""Between the start of a call, which is in its identifier, and its line, at most."""
_FIND = """
SELECT boot_id, seq, line FROM audit_lines
JOIN unnest($1::text[], $2::bigint[]) AS wanted (boot_id, seq) USING (boot_id, seq)"""
_EDGES = (
    "SELECT coalesce(max(at), 0), coalesce((SELECT min(at) FROM line), 0), "
    "(SELECT id FROM first) FROM line"
)
MINUTES = 60
"""Up to which minutes are counted one by one, and not by hour."""
LIMIT_S = 5.0
"""Seconds for one search: others wait for it."""
_STEPS = 1000
"""Instructions of SQLite between two looks at the clock."""
KINDS = (*Facts._fields, "all", "rule")
"""What calls are counted by. Rules count requests: a call may be decided by several."""
_SUM = "SELECT value, result, sum(count), max(last) FROM"
_WHOLE = "SELECT value, result, count, last FROM quarter WHERE kind = ? AND at >= ? AND at < ?"
_PART = "SELECT {} AS value, result, 1 AS count, at AS last FROM {} WHERE at >= ? AND at < ? AND {}"
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Hit:
    """A line that was found: its number, and its JSON if the audit still has it."""

    id: int
    event: Event | None
    at: int
    """Milliseconds since 1970."""
    content: bytes = b""
    """The line as it was written."""
    call: int | None = None
    """The number of the first line of its call; ``None`` for what is of no call."""
    result: int | None = None
    """The place in ``RESULTS``; ``None`` for what is no decision."""


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


def quantile(buckets: Mapping[int, int], share: float) -> float | None:
    """Return the milliseconds below which this share of all calls is; ``None`` without calls.

    ``buckets`` has the count of each bucket, whose calls count as spread evenly in it.
    """
    rank = share * sum(buckets.values())
    for bucket, count in sorted(buckets.items()):
        if count and rank <= count:
            shortest, above = bucket_bounds(bucket)
            return (shortest + (above - shortest) * rank / count) / 1000
        rank -= count
    return None


class IndexReader:
    """Searches an index while it is written, in one thread; raises ``sqlite3.Error``."""

    def __init__(
        self,
        folder: Path,
        audit: Path,
        personal: Personal | None = None,
        clock: Callable[[], float] = time.monotonic,
        database: Database | None = None,
    ) -> None:
        """``database`` has the lines where the files have not."""
        self._folder = folder
        self._files = AuditFiles(audit)
        self._personal = personal
        self._clock = clock
        self._database = database

    def search(
        self, query: Query, before: int | None = None, limit: int = 100, after: int | None = None
    ) -> list[Hit]:
        """Return the newest lines, or those before a number in the index; none up to ``after``."""
        found: list[Hit] = []
        for base in self.bases(*query.period(), after):
            rows = self._select(base, query, "line.*", before, limit - len(found), after)
            found += self._hits(base, rows)
            if len(found) >= limit:
                break
        return found

    def calls(
        self, query: Query, before: int | None = None, limit: int = 100
    ) -> tuple[list[Hit], int | None]:
        """Return the newest calls that match, or requests, or those before a number in the index,
        and the number before which there are more: ``None`` where there are none.

        A call is the worst of its lines, of these the first; a line of no call stands for itself.
        """
        found: dict[int, Hit] = {}
        ranks, passed, older = dict[int, int](), set[int](), None
        above = None if before is None else before + LINES_OF_CALLS
        for base in self.bases(*query.period()):
            rows = self._select(base, query, "line.*", above, 2 * LINES_OF_CALLS)
            mine: dict[int, tuple[Any, ...]] = {}
            for row in rows:
                key = row[0] if query.requests else row[7] or row[0]
                rank = -1 if row[8] is None else row[8]
                if before is not None and row[0] >= before:
                    passed.add(key)  # it is on the page before
                elif key in ranks or not (older or key in passed or len(ranks) == limit):
                    # Of those with equal results, the first one counts.
                    if rank >= ranks.get(key, rank):
                        mine[key], ranks[key] = row, rank
                elif key not in passed:
                    older = older or row[0] + 1
            found |= zip(mine, self._hits(base, [*mine.values()]), strict=True)
            if older is None and len(rows) == 2 * LINES_OF_CALLS:
                older = rows[-1][0]
            # Calls that began in an older segment may have lines there, too.
            if older is not None and all(key >= row[0] for row in rows[-1:] for key in ranks):
                break
        return [*found.values()], older

    def newest(self) -> int:
        """Return the number of the newest line; 0 without one."""
        found = (base.execute("SELECT max(id) FROM line").fetchone()[0] for base in self.bases())
        return next(filter(None, found), 0)

    def over_time(self, query: Query, start: int, end: int, parts: int) -> list[list[int]]:
        """Count the calls that match, or requests, each by place in ``RESULTS``: before a time in
        seconds, and in equal parts of it, with those after it in the last one.
        """
        found = [[0] * len(RESULTS) for _ in range(parts + 1)]
        several = dict[int, tuple[int, int]]()
        for base in self.bases(*query.period()):
            table, where, values, number = self._where(base, query)
            one, at = (number, "at") if query.requests else ("call", "began")
            # All parts of the statement are literals of this module; values are bound.
            rows = base.execute(
                "SELECT CASE WHEN one < (SELECT id FROM first) OR one IN "  # noqa: S608
                "(SELECT value FROM json_each(?)) THEN one ELSE -3 * slot - result - 1 END AS key, "
                f"slot, result, count(*) FROM (SELECT {one} AS one, max(result) AS result, "
                f"min(max((({at} / 1000 - ?) * ? + ?) / ?, 0), ?) AS slot FROM {table} {where} "
                "GROUP BY one) WHERE result >= 0 AND one >= 0 GROUP BY key",
                [str([*several]), start, parts, end - start, end - start, parts, *values],
            )
            for key, slot, result, count in rows:
                if key < 0:
                    found[slot][result] += count
                else:
                    # Of a call that began in an older segment there may be lines there, too.
                    several[key] = max((result, slot), several.get(key, (0, 0)))
        for result, slot in several.values():
            found[slot][result] += 1
        return found

    def newer(self, query: Query, after: int, limit: int) -> tuple[list[Hit], int]:
        """Return the newest of the lines after a number, and how many there are besides."""
        found = self.search(query, None, limit, after)
        is_all = len(found) < limit
        return found, 0 if is_all else self.total(query, found[-1].id, after)

    def counts(self, query: Query) -> tuple[int, dict[str, Counter[str]]]:
        """Return how many of the newest lines were counted, and the values of each column."""
        total, counters = 0, {name: Counter[str]() for name in COLUMNS}
        columns = ", ".join(f"line.{name}" for name in COLUMNS)
        for base in self.bases(*query.period()):
            rows = self._select(base, query, columns, None, COUNTED_LINES - total)
            names = Names(base)
            for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=False):
                known = dict(enumerate(RESULTS)) | {None: ""} if name == "result" else names
                for value, count in Counter(values).items():
                    if text := known[value]:
                        counters[name][text] += count
            total += len(rows)
            if total >= COUNTED_LINES:
                break
        return total, counters

    def total(self, query: Query, before: int | None = None, after: int | None = None) -> int:
        """Return the number of lines that match."""
        bases = self.bases(*query.period(), after)
        return sum(self._select(base, query, "count(*)", before, 1, after)[0][0] for base in bases)

    def decision(self, decision_id: str) -> Hit | None:
        """Return the line of a decision."""
        decision_id = decision_id.lower()
        if not _ID.fullmatch(decision_id):
            return None
        began = int(decision_id[:8] + decision_id[9:13], 16)
        for hit in self._near(began, ID_MS, "tail = ?", id_tail(decision_id)):
            event = hit.event or {}
            if event.get("decision_id") == decision_id and event.get("event") == "decision":
                return hit
        return None

    def same_call(self, hit: Hit) -> list[Hit]:
        """Return the lines of the call of a line, the oldest first."""
        found = self._near(hit.at, 2 * SAME_CALL_MS, "call = ?", hit.call)
        return sorted((hit for hit in found if hit.event), key=lambda hit: (hit.at, hit.id))

    def _near(self, at: int, distance: int, where: str, value: int | None) -> Iterator[Hit]:
        """Yield fifty lines around a moment, in milliseconds, in which a column has a value."""
        period = at - distance, at + distance
        # All parts of the statement are literals of this module; values are bound.
        statement = f"SELECT * FROM line WHERE at BETWEEN ? AND ? AND {where} ORDER BY id LIMIT 50"  # noqa: S608
        for base in self.bases(*period):
            yield from self._hits(base, base.execute(statement, (*period, value)).fetchall())

    def latencies(self, start: int, end: int) -> Counter[int]:
        """Count the requests between two moments in milliseconds by bucket of their duration."""
        found = Counter[int]()
        for _, kind, *_, bucket, count in self.minutes(start // MINUTE_MS, end // MINUTE_MS):
            if kind == CALL:
                found[bucket] += count
        return found

    def minutes(
        self, start: int, end: int, *, each: bool = False
    ) -> Iterator[tuple[int, str, str, str, int, int]]:
        """Yield minute, kind, name, outcome, bucket and count in these minutes, the last one not
        included, or of all as those of minute 0; in whole hours if they are more than one.
        """
        is_short = end - start <= MINUTES
        period = (start, end - 1) if is_short else (-((end - 1) // 60), -(start // 60))
        for base in self.bases(start // 60 * 60 * MINUTE_MS):
            names = Names(base)
            for at, kind, name, outcome, bucket, count in base.execute(
                "SELECT at * ? AS slot, kind, name, outcome, bucket, sum(count) FROM minute "
                "WHERE at BETWEEN ? AND ? GROUP BY slot, kind, name, outcome, bucket",
                (each, *period),
            ):
                yield at, names[kind], names[name], names[outcome], bucket, count

    def since(self) -> int | None:
        """Return the time of the first line that is counted; ``None`` without one."""
        firsts = [base.execute("SELECT min(at) FROM line").fetchone()[0] for base in self.bases()]
        return min(filter(None, firsts), default=None)

    def tallies(self, kind: str, bounds: Sequence[int]) -> list[Tallies]:
        """Count the calls between each two of ``bounds``, in milliseconds, by value of a kind."""
        found: list[Tallies] = [{} for _ in bounds[1:]]
        number = KINDS.index(kind)
        for place, base in enumerate(self.bases()):
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

    def all_tallies(self, bounds: Sequence[int]) -> list[Tally]:
        """Count all calls between each two of ``bounds``."""
        return [one.get("", Tally()) for one in self.tallies("all", bounds)]

    def bases(
        self, since: int | None = None, until: int | None = None, after: int | None = None
    ) -> Iterator[sqlite3.Connection]:
        """Yield the segments with lines of a period, the newest first, while a search may last."""
        end = self._clock() + LIMIT_S
        for path in reversed(segments(self._folder)):
            try:
                uri = f"{path.absolute().as_uri()}?mode=ro"
                with closing(sqlite3.connect(uri, uri=True)) as base:
                    base.set_progress_handler(lambda: self._clock() > end, _STEPS)
                    base.execute("BEGIN")  # all that is read is of one moment
                    last, first, first_id = base.execute(_EDGES).fetchone()
                    is_late = until is not None and first - SAME_CALL_MS >= until
                    if last + SAME_CALL_MS >= (since or 0) and not is_late:
                        yield base
                    if after is not None and first_id <= after:
                        return
            except sqlite3.OperationalError as error:
                # A segment may be removed, or be without its tables yet.
                if took_too_long(error):
                    raise

    def _select(
        self,
        base: sqlite3.Connection,
        query: Query,
        columns: str,
        before: int | None,
        limit: int,
        after: int | None = None,
    ) -> list[tuple[Any, ...]]:
        table, where, values, number = self._where(base, query, before, after)
        # All parts of the statement are literals of this module; values are bound.
        statement = f"SELECT {columns} FROM {table} {where} ORDER BY {number} DESC LIMIT ?"  # noqa: S608
        return base.execute(statement, [*values, limit]).fetchall()

    def _where(
        self,
        base: sqlite3.Connection,
        query: Query,
        before: int | None = None,
        after: int | None = None,
    ) -> tuple[str, str, list[Any], str]:
        """Return tables and conditions, what is bound, and the name of the number of a line."""
        (since, until), slower = query.period(), query.slower_us()
        match = query.expression(self._personal, partial(terms_with, base))
        number = "word.rowid" if match else "line.id"
        last, first, _ = base.execute(_EDGES).fetchone()
        # Where each line of a segment is of the period, none has to be looked at for it.
        if since is not None and since <= first - SAME_CALL_MS:
            since = None
        if until is not None and until > last + SAME_CALL_MS:
            until = None
        # A call is of the period in which it began, with all its lines.
        at = "at" if query.requests else "began"
        terms = {
            "word MATCH ?": match or None,
            f"{number} < ?": before,
            f"{number} > ?": after,
            f"at >= ? - {SAME_CALL_MS}": since,
            f"at < ? + {SAME_CALL_MS}": until,
            f"+{at} >= ?": since,
            f"+{at} < ?": until,
            "us >= ?": slower or None,
        }
        known = {term: value for term, value in terms.items() if value is not None}
        where = f"WHERE {' AND '.join(known)}" if known else ""
        table = "word JOIN line ON line.id = word.rowid" if match else "line"
        return table, where, [*known.values()], number

    def _hits(self, base: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[Hit]:
        """Return the hits of rows of ``line``, in their order."""
        heads = dict(base.execute("SELECT id, head FROM file")) if rows else {}
        if self._database is not None and rows:
            keys = [(heads[row[2]].decode(), row[3]) for row in rows]
            boots, numbers = map(list, zip(*keys, strict=True))
            known = self._database.run(lambda one: one.fetch(_FIND, boots, numbers))
            lines = {(one["boot_id"], one["seq"]): one["line"].encode() for one in known}
            contents = {row: lines.get(key, b"") for row, key in zip(rows, keys, strict=True)}
        else:
            contents = self._contents(rows, heads)
        events = (decode(contents[row]) for row in rows)
        return [
            Hit(row[0], event, row[1], contents[row] if event else b"", *row[7:9])
            for row, event in zip(rows, events, strict=True)
        ]

    def _contents(
        self, rows: list[tuple[Any, ...]], heads: Mapping[int, bytes]
    ) -> dict[tuple[Any, ...], bytes]:
        """Return the lines of rows in the files; empty where they are not there."""
        contents = dict.fromkeys(rows, b"")
        paths = {file.head: file.path for file in self._files.scan()} if rows else {}
        with ExitStack() as stack:
            opened: dict[int, IO[bytes]] = {}
            # Going back in a compressed file means to decompress it again.
            for row in sorted(rows, key=lambda row: row[2:4]):
                _, _, file, offset, size = row[:5]
                with suppress(KeyError, *UNREADABLE):
                    if file not in opened:
                        opened[file] = stack.enter_context(open_file(paths[heads[file]]))
                    opened[file].seek(offset)
                    contents[row] = opened[file].read(size)
        return contents


def _closed(
    base: sqlite3.Connection, kind: int, start: int, end: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yield value, result, count and last time: of whole quarters of an hour, and of the rest."""
    first, last = -(-start // QUARTER_MS), end // QUARTER_MS
    named = KINDS[kind], "call", KINDS[kind]
    part = _PART.format(*{RULE: ("rule", "line", "rule"), ALL: ("0", "call", "1")}.get(kind, named))
    parts, values = [part], [start, end]
    if first < last:
        parts = [_WHOLE, part, part]
        values = [kind, first, last, start, first * QUARTER_MS, last * QUARTER_MS, end]
    # All parts of the statement are literals of this module; values are bound.
    statement = f"{_SUM} ({' UNION ALL '.join(parts)}) GROUP BY value, result"
    return iter(base.execute(statement, values))


def terms_with(base: sqlite3.Connection, kind: str, text: str) -> list[str]:
    """Return the words of a kind in a segment that have a text in them, in any spelling."""
    wanted = folded(word(kind, text)[2:])[0]
    # The words of a kind stand between it with a colon and with the sign after that.
    rows = base.execute(
        "SELECT word FROM term WHERE word >= ? AND word < ? "
        "AND instr(coalesce(folded, word), ?) ORDER BY length(word) LIMIT ?",
        (f"{kind}:", f"{kind};", wanted, MAX_TERMS),
    )
    return [found for (found,) in rows]


class Names(dict[int, str]):
    """The texts of a segment, by their numbers."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base

    def __missing__(self, number: int) -> str:
        find = "SELECT text FROM name WHERE id = ?"
        text: str = self._base.execute(find, (number,)).fetchone()[0]
        self[number] = text
        return text


def took_too_long(error: sqlite3.Error) -> bool:
    """Return whether a search was ended for its time."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
