"""The writer of the index: follows the audit files, in segments of one SQLite database each.

The positions up to which the files are indexed are in the same transaction as the lines, so a
process that is killed continues where its last transaction ended.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from pexpolicy.cli.for_console import Database, DatabaseUnavailable
from pexpolicy.config.files import check_own
from pexpolicy_console.index.audit_files import AuditFile, AuditFiles, ChunkReader, DamagedFileError
from pexpolicy_console.index.calls import BEGINNING, Call, OpenCalls, decode_call, encode_call
from pexpolicy_console.index.lines import (
    DECISION,
    AuditLine,
    Facts,
    TenantOf,
    call_keys,
    facts_of,
    folded,
    id_tail,
    parse,
    result_of,
    rule_of,
    words_of,
)

VERSION = 14
"""A segment of another version is removed, and its lines are indexed again."""
MERGED = 16
"""Trees of words that are merged at a time while lines are added."""
CALL, STEP, DIFFERENCE = "call", "step", "difference"
"""What is counted by minute; a difference is of a shadow plugin."""
COUNTED = (DECISION, "shadow")
MINUTE_MS = 60_000
QUARTER_MS = 15 * MINUTE_MS
"""What calls are counted by; the days of each time zone begin with one."""
ALL, RULE = len(Facts._fields), len(Facts._fields) + 1
"""What is counted in addition to each of ``Facts``: all calls, and requests by rule."""
TERMS = "lcmn"
"""The kinds of words that are found by a part: called, caller, room and node."""
MAX_TERMS = 100_000
"""Words that are remembered as known."""
_SCHEMA = f"""
PRAGMA user_version = {VERSION};
CREATE TABLE file (
    id INTEGER PRIMARY KEY, head BLOB UNIQUE, position INTEGER, complete TEXT
);
CREATE TABLE first (id INTEGER);
CREATE TABLE line (
    id INTEGER PRIMARY KEY, at INTEGER, file INTEGER, offset INTEGER, size INTEGER, us INTEGER,
    tail INTEGER, call INTEGER, result INTEGER, rule INTEGER, event INTEGER, endpoint INTEGER,
    action INTEGER, decided_by INTEGER, reason INTEGER, node INTEGER, instance INTEGER,
    location INTEGER, policy INTEGER, age INTEGER, began AS (at - age)
);
CREATE INDEX line_at ON line (at);
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT UNIQUE);
CREATE TABLE term (word TEXT PRIMARY KEY, folded TEXT) WITHOUT ROWID;
CREATE TABLE open (id INTEGER PRIMARY KEY, call BLOB);
CREATE TABLE call (
    at INTEGER, id INTEGER, result INTEGER, room INTEGER, location INTEGER, protocol INTEGER,
    tenant INTEGER, reason INTEGER, plugin INTEGER, node INTEGER, instance INTEGER, policy INTEGER,
    PRIMARY KEY (at, id)
) WITHOUT ROWID;
CREATE TABLE quarter (
    kind INTEGER, at INTEGER, value INTEGER, result INTEGER, count INTEGER, last INTEGER,
    PRIMARY KEY (kind, at, value, result)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE word USING fts5 (
    words, content = '', columnsize = 0, detail = none,
    tokenize = "ascii tokenchars '!#$%&()*+,-./:;<=>?@[\\]^_`{{|}}~'"
);
CREATE TABLE minute (
    at INTEGER, kind INTEGER, name INTEGER, outcome INTEGER, bucket INTEGER, count INTEGER,
    PRIMARY KEY (at, kind, name, outcome, bucket)
) WITHOUT ROWID;
"""
_LINE = "INSERT INTO line VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CALL = "INSERT INTO call VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_QUARTER = (
    "INSERT INTO quarter VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "count = count + excluded.count, last = max(last, excluded.last)"
)
_TERM = "INSERT OR IGNORE INTO term VALUES (?, ?)"
_WORDS = "INSERT INTO word (rowid, words) VALUES (?, ?)"
_MINUTE = (
    "INSERT INTO minute VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET count = count + excluded.count"
)


@dataclass(slots=True)
class Progress:
    """How far a file is indexed."""

    id: int
    position: int = 0
    complete: str = ""
    """The version of a compressed file that was read to its end."""

    def left(self, file: AuditFile) -> int:
        """Return the bytes that are not indexed yet; below 0 for a file that was cut."""
        if file.is_compressed:
            return 0 if self.complete == file.version else file.size
        return file.size - self.position


PlacedLine = tuple[AuditLine, int, int]
"""A line to index, and its place in its file: offset and size in bytes."""
Row = tuple[int | None, ...]


@lru_cache(maxsize=16_384)
def bucket_of(us: int) -> int:
    """Return the bucket of a duration in microseconds: four in each power of two."""
    exponent = us.bit_length()
    return us if exponent < 3 else exponent * 4 + ((us >> (exponent - 3)) & 3) - 4  # noqa: PLR2004


def bucket_bounds(bucket: int) -> tuple[int, int]:
    """Return the shortest duration of a bucket in microseconds, and the one above the longest."""
    if bucket < 4:  # noqa: PLR2004 - one duration each
        return bucket, bucket + 1
    exponent, part = divmod(bucket + 4, 4)
    return (4 + part) << (exponent - 3), (5 + part) << (exponent - 3)


class SegmentWriter:
    """Writes the newest segment. Raises ``sqlite3.Error``."""

    def __init__(
        self, path: Path, former: SegmentWriter | None = None, tenant_of: TenantOf | None = None
    ) -> None:
        """Open a segment, or create it as the one that follows the ``former``."""
        self.path = path
        self._tenant_of = tenant_of
        with suppress(FileNotFoundError):
            check_own(path)
        self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._base.executescript(
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;"
            "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16000;"
            "PRAGMA wal_autocheckpoint = 4000;"
        )
        if not self._base.execute("SELECT 1 FROM sqlite_master WHERE name = 'minute'").fetchone():
            self._create(former)
        self.files = {
            head: Progress(number, position, complete)
            for number, head, position, complete in self._base.execute("SELECT * FROM file")
        }
        self.first_id: int
        self.next_id: int
        ends = "SELECT id, coalesce((SELECT max(id) + 1 FROM line), id) FROM first"
        self.first_id, self.next_id = self._base.execute(ends).fetchone()
        opened = self._base.execute("SELECT call FROM open ORDER BY id")
        self.open_calls = OpenCalls(decode_call(content) for (content,) in opened)
        self._terms: set[str] = set()
        """Those that are known to be in the segment."""
        self._name_id = lru_cache(maxsize=16_384)(self._find_name_id)
        self._minutes = Counter[tuple[int, str, str, str, int]]()
        """What the lines of a transaction add to ``minute``."""
        self._quarters = defaultdict[tuple[int, int, int, int], list[int]](lambda: [0, 0])
        """Likewise: the count, and the last time."""

    def _create(self, former: SegmentWriter | None) -> None:
        files = {} if former is None else former.files
        self._base.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}")
        self._base.execute("INSERT INTO word (word, rank) VALUES ('automerge', ?)", (MERGED,))
        self._base.execute("INSERT INTO name VALUES (0, '')")
        first_id = 1 if former is None else former.next_id
        self._base.execute("INSERT INTO first VALUES (?)", (first_id,))
        rows = ((one.id, head, one.position, one.complete) for head, one in files.items())
        self._base.executemany("INSERT INTO file VALUES (?, ?, ?, ?)", rows)
        # Those of the newest segment count: with it, they are taken over.
        self._store_open(() if former is None else former.open_calls)
        self._base.execute("COMMIT")

    def progress(self, file: AuditFile) -> Progress:
        """Return how far a file is indexed."""
        return self.files.get(file.head) or Progress(len(self.files) + 1)

    @property
    def count(self) -> int:
        """Lines in this segment."""
        return self.next_id - self.first_id

    def add(
        self, file: AuditFile, lines: Iterable[PlacedLine], position: int, *, is_end: bool = False
    ) -> None:
        """Index lines of a file, and store that it is indexed up to a position."""
        progress = self.files.setdefault(file.head, self.progress(file))
        progress.position = position
        if file.is_compressed and is_end:
            progress.complete = file.version
        many, calls = self._base.executemany, self.open_calls
        self._base.execute("BEGIN IMMEDIATE")
        found = [
            self._indexed(number, progress.id, *one)
            for number, one in enumerate(lines, self.next_id)
        ]
        words = [(row[0], text) for row, text in found]
        many(_LINE, (row for row, _ in found))
        many(_WORDS, words)
        many(_TERM, self._new_terms(text for _, text in words))
        many(_MINUTE, self._minute_rows())
        many("DELETE FROM open WHERE id = ?", ((one.id,) for one in calls.ended))
        many(_CALL, map(self._counted, calls.ended))
        self._store_open(calls.changed.values())
        many(_QUARTER, ((*key, *one) for key, one in self._quarters.items()))
        self._base.execute(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)",
            (progress.id, file.head, position, progress.complete),
        )
        self._base.execute("COMMIT")
        for counted in (self._minutes, self._quarters, calls.ended, calls.changed):
            counted.clear()
        self.next_id += len(found)

    def _indexed(
        self, number: int, file: int, line: AuditLine, offset: int, size: int
    ) -> tuple[Row, str]:
        """Count a line; return its row, and its words."""
        at, name_id = int(line.timestamp.timestamp() * 1000), self._name_id
        facts, result = facts_of(line, self._tenant_of), result_of(line)
        is_decision, rule = line.event == DECISION, 0
        if not is_decision or line.endpoint not in BEGINNING:
            call = self.open_calls.find(call_keys(line), at)
        else:
            call = self.open_calls.add(number, at, line, facts, result)
        if is_decision and (name := rule_of(line.reason)):
            rule = name_id(name)
            self._count(RULE, at, rule, result)
        if line.event in COUNTED:
            self._count_minute(line, at // MINUTE_MS, is_decision=is_decision)
        location = name_id(facts.location)
        *_, reason, plugin, node, instance, policy = map(name_id, facts)
        asked = map(name_id, (line.event, line.endpoint, line.action))
        place = number, at, file, offset, size, int(line.ms * 1000), id_tail(line.decision_id)
        # The answer of a shadow was not sent.
        became = None if call is None else call.id, result if is_decision else None
        age = 0 if call is None else at - call.at
        row = *place, *became, rule, *asked, plugin, reason, node, instance, location, policy, age
        return row, " ".join(dict.fromkeys(words_of(line, facts, result)))

    def _count_minute(self, line: AuditLine, minute: int, *, is_decision: bool) -> None:
        minutes = self._minutes
        if is_decision:
            minutes[minute, CALL, line.endpoint, line.action, bucket_of(int(line.ms * 1000))] += 1
        elif line.differs is True:
            plugin = line.steps[0].plugin if line.steps else ""
            minutes[minute, DIFFERENCE, f"{line.endpoint}/{plugin}", "", 0] += 1
        for step in line.steps:
            name, took = f"{line.endpoint}/{step.plugin}", bucket_of(int(step.ms * 1000))
            minutes[minute, STEP, name, step.outcome, took] += 1

    def _minute_rows(self) -> Iterator[Row]:
        """Yield rows of minutes, and for many days those of hours, whose ``at`` is below 0."""
        for (at, kind, name, outcome, bucket), count in self._minutes.items():
            row = *map(self._name_id, (kind, name, outcome)), bucket, count
            yield at, *row
            yield -(at // 60), *row

    def _counted(self, call: Call) -> Row:
        """Count a call that has ended, and return its row."""
        values = [*map(self._name_id, call.facts)]
        self._count(ALL, call.at, 0, call.result)
        for kind, value in enumerate(values):
            if value:
                self._count(kind, call.at, value, call.result)
        return call.at, call.id, call.result, *values

    def _count(self, kind: int, at: int, value: int, result: int) -> None:
        counted = self._quarters[kind, at // QUARTER_MS, value, result]
        counted[0] += 1
        counted[1] = max(counted[1], at)

    def _store_open(self, calls: Iterable[Call]) -> None:
        rows = ((one.id, encode_call(one)) for one in calls)
        self._base.executemany("INSERT OR REPLACE INTO open VALUES (?, ?)", rows)

    def _new_terms(self, texts: Iterable[str]) -> Iterator[tuple[str, str | None]]:
        """Yield the words of people and rooms, which are found by parts of them."""
        found = {word for text in texts for word in text.split(" ") if word[0] in TERMS}
        if len(self._terms) > MAX_TERMS:
            self._terms.clear()
        for word in found - self._terms:
            spelled = folded(word[2:])
            yield word, None if spelled == (word[2:],) else " ".join(spelled)
        self._terms |= found

    def _find_name_id(self, text: str) -> int:
        found = self._base.execute("SELECT id FROM name WHERE text = ?", (text,)).fetchone()
        if found is None:
            return self._base.execute("INSERT INTO name (text) VALUES (?)", (text,)).lastrowid or 0
        number: int = found[0]
        return number

    def finish(self) -> None:
        """Merge the words into one tree, and give back the space, in about a second."""
        self._base.execute("INSERT INTO word (word) VALUES ('optimize')")
        # Each step of the statement frees one page, and execute() takes one step.
        self._base.executescript("PRAGMA incremental_vacuum")

    def close(self) -> None:
        """Close the database."""
        self._base.close()


SEGMENT_LINES = 500_000
"""Lines from which on a new segment is begun."""
MAX_BYTES = 4 << 30
"""Size of the index, from which on the oldest lines are removed from it."""
SUFFIXES = ("", "-wal", "-shm")


@dataclass(slots=True)
class IndexState:
    """How far the index is."""

    lines: int = 0
    """Lines in the index."""
    behind_bytes: int = 0
    """Bytes of audit files that are not indexed yet; compressed files count with their size."""
    size: int = 0
    """Bytes of the index on the disk."""
    damaged: int = 0
    """Lines that are not audit lines, and compressed files that end within one, since the start."""
    problem: str = ""
    """Why the index is not written."""


class IndexWriter:
    """Indexes what was appended to the audit, in ``step``. One thread uses it."""

    def __init__(
        self,
        folder: Path,
        audit: Path,
        max_bytes: int = MAX_BYTES,
        segment_lines: int = SEGMENT_LINES,
        database: Database | None = None,
        tenant_of: TenantOf | None = None,
    ) -> None:
        """``database`` is followed in place of the files, if there is one."""
        self.state = IndexState()
        self._folder = folder
        self._files = AuditFiles(audit)
        self._chunks = ChunkReader()
        self._max_bytes = max_bytes
        self._segment_lines = segment_lines
        self._segment: SegmentWriter | None = None
        self._first_id = 1
        """The number of the first line of all."""
        self._database = database
        self._tenant_of = tenant_of

    def step(self) -> bool:
        """Index the next lines, or remove a damaged index; return False without any more."""
        try:
            return self._step()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                # Such as a full disk; what is there is whole.
                self.close()
                raise OSError(str(error)) from None
            self.remove()
            return True

    def _step(self) -> bool:
        segment = self._segment or self._open()
        if self._database is None:
            files = self._files.scan()
            if any(segment.progress(one).left(one) < 0 for one in files):
                # Cut or replaced by an older copy: other lines may be where the indexed ones were.
                self.remove()
                return True
            has_more = self._add_of_files(segment, files)
        else:
            files, has_more = [], self._add_of_database(segment, self._database)
        if segment.count >= self._segment_lines:
            self._segment = segment = self._next(segment)
        state = self.state
        state.lines = segment.next_id - self._first_id
        state.behind_bytes = sum(segment.progress(one).left(one) for one in files)
        state.size = sum(_size(path) for path in segments(self._folder))
        state.problem = self._files.problem
        return has_more

    def _add_of_files(self, segment: SegmentWriter, files: Iterable[AuditFile]) -> bool:
        """Index the next lines of the first file that has some; return False where none has."""
        for file in files:
            progress = segment.progress(file)
            if not progress.left(file):
                continue
            try:
                content = self._chunks.read(file, progress.position)
            except FileNotFoundError:
                return True  # it was renamed after the scan
            except DamagedFileError:
                content = b""
                self.state.damaged += 1
            if content:
                lines = list(self._parsed(content, progress.position))
                segment.add(file, lines, progress.position + len(content))
                return True
            if file.is_compressed:
                segment.add(file, [], progress.position, is_end=True)
                self._chunks.close()
        # One that was removed before its end would stay open, and on the disk.
        self._chunks.close()
        return False

    def _parsed(self, content: bytes, position: int) -> Iterator[PlacedLine]:
        for raw in content.split(b"\n")[:-1]:
            line = parse(raw)
            if line is not None:
                yield line, position, len(raw)
            elif raw.strip(b" "):
                self.state.damaged += 1
            position += len(raw) + 1

    def _add_of_database(self, segment: SegmentWriter, database: Database) -> bool:
        """Index the next lines of the database, where each chain counts as a file of lines."""
        known = {head.decode(): one.position for head, one in segment.files.items()}
        try:
            rows = database.newer(known)
        except DatabaseUnavailable as error:
            raise OSError(str(error)) from None
        for boot_id, group in groupby(rows, key=itemgetter("boot_id")):
            places = [(row["line"].encode(), row["seq"]) for row in group]
            parsed = ((parse(content), seq, len(content)) for content, seq in places)
            lines = [(line, *place) for line, *place in parsed if line is not None]
            segment.add(AuditFile(Path(), boot_id.encode(), 0, 0), lines, places[-1][1])
        return bool(rows)

    def _open(self) -> SegmentWriter:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = segments(self._folder)
        # A segment without its tables was being created when the process ended.
        while found and _first_id_of(found[-1]) is None:
            _remove(found.pop())
        if None in map(_first_id_of, found):
            self.remove()
            found = []
        path = found[-1] if found else self._folder / "000001.db"
        self._segment = SegmentWriter(path, None, self._tenant_of)
        self._first_id = _first_id_of(found[0] if found else path) or 1
        return self._segment

    def _next(self, segment: SegmentWriter) -> SegmentWriter:
        """Begin a new segment, and remove the oldest ones while the index is too large."""
        segment.finish()
        number = int(segment.path.stem) + 1
        following = SegmentWriter(self._folder / f"{number:06d}.db", segment, self._tenant_of)
        segment.close()
        found = segments(self._folder)
        total = sum(map(_size, found))
        while total > self._max_bytes and len(found) > 2:  # noqa: PLR2004 - the newest two stay
            oldest = found.pop(0)
            total -= _size(oldest)
            _remove(oldest)
        self._first_id = _first_id_of(found[0]) or 1
        return following

    def remove(self) -> None:
        """Remove the whole index."""
        self.close()
        # The newest one first, as it has the positions: what is left after a kill has no gap.
        for path in reversed(segments(self._folder)):
            _remove(path)

    def close(self) -> None:
        """Close the newest segment."""
        self._chunks.close()
        if self._segment is not None:
            self._segment.close()
            self._segment = None


def segments(folder: Path) -> list[Path]:
    """Return the segments of an index, the oldest first."""
    return sorted(folder.glob("[0-9]*.db"))


def _first_id_of(path: Path) -> int | None:
    """Return the number of the first line of a segment; ``None`` if it cannot be used."""
    try:
        check_own(path)
        with closing(sqlite3.connect(path)) as base:
            (version,) = base.execute("PRAGMA user_version").fetchone()
            first: tuple[int] = base.execute("SELECT id FROM first").fetchone()
            return first[0] if version == VERSION else None
    except (sqlite3.Error, TypeError, OSError):
        return None


def _size(path: Path) -> int:
    total = 0
    for suffix in SUFFIXES:
        with suppress(OSError):
            total += Path(f"{path}{suffix}").stat().st_size
    return total


def _remove(path: Path) -> None:
    for suffix in SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
