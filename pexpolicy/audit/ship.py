"""The shipper: copies the lines of audit files to the database, in a process of its own.

The database has the position: what was stored is not sent again. A line is stored once, as its
chain and number are its key.
"""

from __future__ import annotations

import gzip
import os
import re
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pexpolicy.audit.database import Database, DatabaseUnavailable
from pexpolicy.audit.hash_chain import END, TAIL
from pexpolicy.audit.reader import RawLine, Record, file_and_rotated, lines_of, open_file, read
from pexpolicy.audit.shipped import ShippedLines
from pexpolicy.audit.targets import tail_of
from pexpolicy.config.files import FileVersion, version_of

if TYPE_CHECKING:
    import asyncpg  # type: ignore[import-untyped]

POLL_S = 0.5
RETRY_S = 2.0
HEARTBEAT_S = 5.0
PURGE_S = 3600.0
BATCH_LINES = 1000
BATCH_BYTES = 4 << 20
HEADS_WINDOW = 1 << 18
"""Bytes at the end of the file that have the last line of each chain that is written."""
MARK_SIZE = 128
"""Bytes at the start of a file that no other file has: the first line has its time."""
_TAIL = re.compile(TAIL + rb"\Z")
_INSERT = """
INSERT INTO audit_lines (boot_id, seq, instance, time, line)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[])
ON CONFLICT DO NOTHING"""
_HEADS = """
INSERT INTO audit_chains (boot_id, seq, instance, hash, ended, pending)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bool[], $6::bool[])
ON CONFLICT (boot_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash,
    ended = excluded.ended, pending = excluded.pending, time = now()
WHERE excluded.seq >= audit_chains.seq"""
_NOT_PENDING = "UPDATE audit_chains SET pending = false WHERE pending AND instance = $1"


class _Row(NamedTuple):
    """One line, and what the tables have of it."""

    boot_id: str
    seq: int
    instance: str
    time: datetime
    line: str
    hash: str
    ended: bool


_LINE = ("boot_id", "seq", "instance", "time", "line")
_HEAD = ("boot_id", "seq", "instance", "hash", "ended")


class _File(NamedTuple):
    """How far a file was read; ``version`` is ``None`` before its end."""

    version: FileVersion | None
    mark: bytes
    position: int


@dataclass
class _Batch:
    """The next lines, and how far the files are read with them."""

    paths: list[Path]
    files: dict[int, _File]
    rows: list[_Row] = field(default_factory=list)
    size: int = 0

    @property
    def is_full(self) -> bool:
        """Whether there may be further lines."""
        return len(self.rows) >= BATCH_LINES or self.size >= BATCH_BYTES


class Shipper:
    """Copies the audit of one server."""

    def __init__(
        self, database: Database, path: Path, instance: str, keep_days: int | None = None
    ) -> None:
        """``instance`` is that of lines without one."""
        self._database = database
        self._path = path
        self._instance = instance
        self._keep = None if keep_days is None else timedelta(days=keep_days)
        self._note = ShippedLines(path)
        self._stored: dict[str, int] = {}
        """The last line of each chain that was stored before, by this process or another one."""
        self._is_known = False
        """Whether that was read since the last failure."""
        self._shipped: dict[str, int] = {}
        """The last line of each chain of these files that is stored."""
        self._files: dict[int, _File] = {}
        self._heartbeat_at = self._purge_at = 0.0

    def run(self, tell: Callable[[str], None]) -> None:
        """Copy lines without end; ``tell`` gets each new problem."""
        problem = ""
        while True:
            try:
                waits = 0.0 if self.step() else POLL_S
                if problem:
                    tell("lines are copied again")
                problem = ""
            except (DatabaseUnavailable, OSError) as error:
                self._is_known, waits = False, RETRY_S
                if problem != (problem := str(error)):
                    tell(f"lines wait: {problem}")
            time.sleep(waits)

    def step(self) -> bool:
        """Copy the next lines; return False where there are none.

        Raises ``DatabaseUnavailable``, and ``OSError`` for files.
        """
        now = time.time()
        if not self._is_known:
            self._resume()
        batch = self._collect()
        if batch is None:
            return True
        if batch.rows or now >= self._heartbeat_at:
            self._store(batch)
            self._heartbeat_at = now + HEARTBEAT_S
            until = batch.rows[-1].time.timestamp() if batch.is_full else now
            self._note.write(until, self._shipped)
        self._files = batch.files
        if batch.is_full:
            return True
        if self._keep is not None and now >= self._purge_at:
            # Where it is not permitted, it must not stop the copying.
            self._purge_at = now + PURGE_S
            if self._database.purge(datetime.now(UTC) - self._keep):
                self._purge_at = now
        return False

    def _resume(self) -> None:
        stored = self._database.stored()
        if any(stored.get(boot_id, 0) < seq for boot_id, seq in self._shipped.items()):
            # An older state of the database was restored.
            self._files, self._shipped = {}, {}
        self._stored, self._is_known = stored, True

    def _collect(self) -> _Batch | None:
        """Return the next lines; ``None`` if files were renamed meanwhile."""
        batch = _Batch(file_and_rotated(self._path), dict(self._files))
        found = set[int]()
        for number, path in enumerate(batch.paths):
            count = len(batch.rows)
            # A writer may add to a file for a moment after another has rotated it, and only then to
            # the next one, which must not be stored without that: the two before are read again.
            for one in (path, *batch.paths[max(number - 2, 0) : number]):
                if one is path or len(batch.rows) > count:
                    inode = self._read(one, batch, to_end=one is not path)
                    if inode is None:
                        return None
                    found.add(inode)
            if batch.is_full:
                return batch
        batch.files = {inode: file for inode, file in batch.files.items() if inode in found}
        return batch

    def _read(self, path: Path, batch: _Batch, *, to_end: bool) -> int | None:
        """Add the next lines of a file, and return its inode; ``None`` if it was renamed."""
        version = version_of(path)
        if version is None:
            return None
        known = batch.files.get(version.inode)
        if known is not None and known.version == version:
            return version.inode
        position, mark = 0, b""
        end: FileVersion | None = version
        with suppress(gzip.BadGzipFile, EOFError, zlib.error), open_file(path) as file:
            renamed = path == self._path and file_and_rotated(path) != batch.paths
            if renamed or os.fstat(file.fileno()).st_ino != version.inode:
                return None
            mark = file.read(MARK_SIZE)
            position = known.position if known is not None and known.mark == mark else 0
            file.seek(position)
            for raw in lines_of(path, file):
                if not raw.terminated:
                    break
                position += len(raw.content) + 1
                for row in _rows_of(raw, self._instance):
                    stored = self._stored.get(row.boot_id, 0)
                    if row.seq > stored:
                        batch.rows.append(row)
                        batch.size += len(row.line)
                    else:
                        self._shipped.setdefault(row.boot_id, stored)
                if batch.is_full and not to_end:
                    end = None
                    break
        batch.files[version.inode] = _File(end, mark, position)
        return version.inode

    def _store(self, batch: _Batch) -> None:
        """Store lines and heads in one transaction."""
        shipped = {row.boot_id: row.seq for row in batch.rows}
        heads = {row.boot_id: row for row in batch.rows}
        # The newest file has no line yet after it was begun.
        tails = [tail_of(path, HEADS_WINDOW).split(b"\n")[1:] for path in batch.paths[-2:]]
        for line in chain.from_iterable(tails):
            for row in _rows_of(RawLine(self._path, 0, line), self._instance):
                if row.boot_id not in heads or heads[row.boot_id].seq < row.seq:
                    heads[row.boot_id] = row
        known = {**self._stored, **self._shipped, **shipped}
        pending = [known.get(row.boot_id, 0) < row.seq for row in heads.values()]

        async def store(connection: asyncpg.Connection) -> None:
            async with connection.transaction():
                await connection.execute(_INSERT, *_columns(batch.rows, _LINE))
                await connection.execute(_HEADS, *_columns(heads.values(), _HEAD), pending)
                if not batch.is_full:
                    await connection.execute(_NOT_PENDING, self._instance)

        self._database.run(store)
        for boot_id, seq in shipped.items():
            # The newest ones are the last.
            self._shipped.pop(boot_id, None)
            self._shipped[boot_id] = seq


def _rows_of(raw: RawLine, instance: str) -> Iterator[_Row]:
    """Yield the row of a line, which is none if it is damaged."""
    for found in read(raw):
        content = found.raw.content
        if isinstance(found, Record) and (match := _TAIL.search(content)) is not None:
            named = found.event.get("instance")
            yield _Row(
                match[1].decode(),
                int(match[2]),
                named if isinstance(named, str) else instance,
                _time_of(found.event.get("timestamp")),
                content.decode().lstrip(" "),
                match[3].decode(),
                found.event["event"] == END,
            )


def _columns(rows: Collection[_Row], names: Sequence[str]) -> list[list[Any]]:
    return [[getattr(row, name) for row in rows] for name in names]


def _time_of(timestamp: object) -> datetime:
    """Return the time of a line; another program may have written it."""
    with suppress(ValueError, TypeError):
        found = datetime.fromisoformat(str(timestamp))
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return datetime.now(UTC)
