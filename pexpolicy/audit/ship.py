"""The shipper: copies the lines of audit files to the database, in a process of its own.

After a start it sends the last two files again, in addition to those that were not sent: the chain
and the number of a line are its key, so it is stored once.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pexpolicy.audit import reader
from pexpolicy.audit.database import Database, DatabaseUnavailable
from pexpolicy.audit.hash_chain import END, TAIL
from pexpolicy.audit.shipped import ShippedLines
from pexpolicy.audit.targets import tail_of

if TYPE_CHECKING:
    import asyncpg  # type: ignore[import-untyped]

POLL_S, RETRY_S, HEARTBEAT_S, PURGE_S = 0.5, 2.0, 5.0, 3600.0
HEADS_WINDOW = 1 << 18
"""Bytes at the end of the file that have the last line of each chain that is written."""
_INSERT = """
INSERT INTO audit_lines (boot_id, seq, instance, time, line)
SELECT boot_id, new.seq, new.instance, new.time, new.line
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[])
    AS new (boot_id, seq, instance, time, line)
LEFT JOIN audit_chains USING (boot_id) WHERE new.seq > coalesce(purged_seq, 0)
ON CONFLICT DO NOTHING"""
_HEADS = """
INSERT INTO audit_chains (boot_id, seq, instance, hash, ended, pending)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bool[], $6::bool[])
ON CONFLICT (boot_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash,
    ended = excluded.ended, pending = excluded.pending, time = now()
WHERE excluded.seq >= audit_chains.seq"""
_NOT_PENDING = "UPDATE audit_chains SET pending = false WHERE pending AND instance = $1"
_Row = tuple[str, int, str, datetime, str, str, bool]
"""``boot_id``, ``seq``, ``instance``, ``time``, ``line``, ``hash``, ``ended``."""


class Shipper:
    """Copies the audit of one server; ``instance`` is that of lines without one."""

    def __init__(
        self, database: Database, path: Path, instance: str, keep_days: int | None = None
    ) -> None:
        self._database = database
        self._path = path
        self._instance = instance
        self._keep = None if keep_days is None else timedelta(days=keep_days)
        self._shipped = ShippedLines(path)
        self._open: deque[reader.Followed] = deque()
        """The file that is read, and the two before it."""
        self._next: deque[reader.Followed] = deque()
        self._rows: list[_Row] = []
        """What could not be stored yet."""
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
                waits = RETRY_S
                if problem != (problem := str(error)):
                    tell(f"lines wait: {problem}")
            time.sleep(waits)

    def step(self) -> bool:
        """Copy the next lines; return False where there are none.

        Raises ``DatabaseUnavailable``, and ``OSError`` for files.
        """
        now, has_more = time.time(), True
        if not self._rows:
            lines = self._new_lines()
            self._rows = [row for raw in lines for row in _rows_of(raw, self._instance)]
            has_more = bool(lines)
        if self._rows or now >= self._heartbeat_at:
            self._store(has_more=has_more)
            # The newest chains are the last.
            chains = {**self._shipped.chains}
            for boot_id, seq in {row[0]: row[1] for row in self._rows}.items():
                chains[boot_id] = max(chains.pop(boot_id, 0), seq)
            until = self._rows[-1][3].timestamp() if has_more else now
            self._rows, self._heartbeat_at = [], now + HEARTBEAT_S
            self._shipped.write(until, chains)
        if self._keep is not None and now >= self._purge_at and not has_more:
            # Where it is not permitted, it must not stop the copying.
            self._purge_at = now + PURGE_S
            if self._database.purge(datetime.now(UTC) - self._keep):
                self._purge_at = now
        return has_more

    def close(self) -> None:
        """Close the files."""
        for one in (*self._open, *self._next):
            one.file.close()

    def _new_lines(self) -> list[reader.RawLine]:
        """Return the next lines of the files, in their order; none if there are none now."""
        while True:
            # A writer may add to a file for a moment after another has rotated it, and only then to
            # the next one: what is in that one must not be stored without it.
            found = [one.new_lines() for one in reversed(self._open)]
            if any(found):
                return [*chain.from_iterable(reversed(found))]
            if not self._next and not self._look():
                return []
            self._open.append(self._next.popleft())
            if len(self._open) > 3:  # noqa: PLR2004 - as above
                self._open.popleft().file.close()

    def _look(self) -> bool:
        """Open the files after the one that is read, or all that are not shipped, and two more."""
        paths, found = reader.file_and_rotated(self._path), deque[reader.Followed]()
        last = os.fstat(self._open[-1].file.fileno()) if self._open else None
        for path in reversed(paths):
            is_read = last is not None and os.path.samestat(last, path.stat())
            if is_read or (len(found) > 1 and self._shipped.has(path)):
                break
            found.appendleft(reader.Followed(path, reader.open_file(path)))
        if reader.file_and_rotated(self._path) != paths:  # one was renamed meanwhile
            while found:
                found.pop().file.close()
        self._next = found
        return bool(found)

    def _store(self, *, has_more: bool) -> None:
        """Store lines, and the last ones of the files, in one transaction."""
        sent = {row[0]: row for row in self._rows}
        known = {**self._shipped.chains, **{boot_id: row[1] for boot_id, row in sent.items()}}
        # The newest file has no line yet after it was begun.
        for path in reader.file_and_rotated(self._path)[-2:]:
            for line in tail_of(path, HEADS_WINDOW).split(b"\n")[1:]:
                for row in _rows_of(reader.RawLine(path, 0, line), self._instance):
                    if row[0] not in sent or sent[row[0]][1] < row[1]:
                        sent[row[0]] = row
        heads = [(*row[:3], *row[5:], known.get(row[0], 0) < row[1]) for row in sent.values()]

        async def store(connection: asyncpg.Connection) -> None:
            async with connection.transaction():
                await connection.execute(_INSERT, *_columns([row[:5] for row in self._rows], 5))
                await connection.execute(_HEADS, *_columns(heads, 6))
                if not has_more:
                    await connection.execute(_NOT_PENDING, self._instance)

        self._database.run(store)


def _columns(rows: list[Any], count: int) -> list[Any]:
    return [*zip(*rows, strict=True)] or [()] * count


def _rows_of(raw: reader.RawLine, instance: str) -> Iterator[_Row]:
    """Yield the row of a line, which is none if it is damaged."""
    for found in reader.read(raw):
        content = found.raw.content
        if isinstance(found, reader.Record) and (match := TAIL.search(content)) is not None:
            boot_id, seq, digest = match[1].decode(), int(match[2]), match[3].decode()
            at = reader.time_of(found.event) or datetime.now(UTC)
            named, line = found.event.get("instance") or instance, content.decode().lstrip(" ")
            yield boot_id, seq, str(named), at, line, digest, found.event["event"] == END
