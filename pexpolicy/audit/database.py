"""The audit of several servers in PostgreSQL.

``audit_lines`` has the lines. ``audit_chains`` has the last line of each chain that was seen in the
file of its server, when that was, and the last line that was purged: it stays when a file is lost.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pexpolicy.audit import reader
from pexpolicy.audit.hash_chain import END, TAIL
from pexpolicy.audit.reader import RawLine
from pexpolicy.audit.rotation import ShippedLines
from pexpolicy.audit.targets import tail_of
from pexpolicy.config.outgoing import postgresql_options
from pexpolicy.config.problems import SettingsError
from pexpolicy.config.secrets import SecretError, read_secret
from pexpolicy.config.settings import Settings
from pexpolicy.errors import describe_network_error
from pexpolicy.tasks import hide

if TYPE_CHECKING:
    import asyncpg  # type: ignore[import-untyped]

ANSWER_S = 60.0
"""Seconds for one statement, after which the connection is given up."""
NO_DRIVER = "asyncpg is missing: pip install 'pexpolicy-sources[postgresql]'"
PLACE = Path("database")
"""The place of its lines in messages."""
_SCHEMA = """
SELECT pg_advisory_xact_lock(7079);
CREATE TABLE IF NOT EXISTS audit_lines (
    boot_id text, seq bigint, instance text NOT NULL, time timestamptz NOT NULL,
    line text NOT NULL, PRIMARY KEY (boot_id, seq)
);
CREATE INDEX IF NOT EXISTS audit_lines_time ON audit_lines (time);
CREATE TABLE IF NOT EXISTS audit_chains (
    boot_id text PRIMARY KEY, instance text NOT NULL, seq bigint NOT NULL, hash text NOT NULL,
    time timestamptz NOT NULL DEFAULT now(), ended boolean NOT NULL, pending boolean NOT NULL,
    purged_seq bigint NOT NULL DEFAULT 0, purged_hash text NOT NULL DEFAULT ''
)"""
_CHAINS = """
SELECT *, extract(epoch FROM now() - time)::float AS age FROM audit_chains
ORDER BY instance, time"""
# The next lines of some chains, merged by time: those chains whose next line is the oldest.
_NEWER = """
WITH behind AS (
    SELECT boot_id, coalesce(known.seq, 0) AS seq FROM audit_chains
    LEFT JOIN unnest($1::text[], $2::bigint[]) AS known (boot_id, seq) USING (boot_id)
    CROSS JOIN LATERAL (
        SELECT l.time FROM audit_lines l WHERE l.boot_id = audit_chains.boot_id
        AND l.seq > coalesce(known.seq, 0) ORDER BY l.seq LIMIT 1
    ) AS next ORDER BY next.time LIMIT 50
)
SELECT l.* FROM behind CROSS JOIN LATERAL (
    SELECT * FROM audit_lines WHERE boot_id = behind.boot_id AND seq > behind.seq
    ORDER BY seq LIMIT 1000
) AS l
ORDER BY max(l.time) OVER (PARTITION BY l.boot_id ORDER BY l.seq), l.boot_id, l.seq LIMIT 1000"""
# Of each chain the first lines go, so that the rest can be verified from the hash that is kept. A
# clock that was wrong must not take newer lines with it.
_PURGE = """
WITH found AS (
    SELECT boot_id, max(seq) AS seq FROM (
        SELECT boot_id, seq FROM audit_lines WHERE time < $1 ORDER BY time LIMIT 10000
    ) AS oldest GROUP BY boot_id
), old AS (
    SELECT boot_id, coalesce((
        SELECT l.seq - 1 FROM audit_lines l WHERE l.boot_id = found.boot_id AND l.seq <= found.seq
        AND l.time >= $1 ORDER BY l.seq LIMIT 1
    ), seq) AS seq FROM found
), kept AS (
    UPDATE audit_chains SET purged_seq = old.seq, purged_hash = left(right(line, 66), 64)
    FROM old JOIN audit_lines USING (boot_id, seq) WHERE audit_chains.boot_id = old.boot_id
)
DELETE FROM audit_lines USING old
WHERE audit_lines.boot_id = old.boot_id AND audit_lines.seq <= old.seq"""

T = TypeVar("T")


class DatabaseUnavailable(Exception):
    """The database cannot be used."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the database of audit.ship.url: {why}")


class Database:
    """A connection to the database of ``[audit.ship]``, opened when it is used, for one thread.

    Methods raise ``DatabaseUnavailable``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runner = asyncio.Runner()
        self._connection: asyncpg.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up()
        self._runner.close()

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def run(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Return what ``work`` returns; after ``ANSWER_S`` the connection is given up."""
        return self._runner.run(self._run(work))

    async def _run(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        try:
            import asyncpg  # noqa: PLC0415 - an extra
        except ImportError:
            raise DatabaseUnavailable(NO_DRIVER) from None

        async def connected() -> T:
            if self._connection is None:
                self._connection = await _connect(self._settings)
            return await work(self._connection)

        # The client may wait for a server that is frozen beyond any timeout of its own.
        task = asyncio.create_task(connected())
        hide(task)
        try:
            if not (await asyncio.wait({task}, timeout=ANSWER_S))[0]:
                raise DatabaseUnavailable(f"no answer within {ANSWER_S:.0f} s")
            return task.result()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, EOFError) as error:
            raise DatabaseUnavailable(describe_network_error(error)) from None
        # The client fails in itself where the server ends the connection during a query.
        except (SecretError, SettingsError, asyncpg.InternalClientError) as error:
            raise DatabaseUnavailable(str(error)) from None
        finally:
            if not task.done() or task.exception() is not None:
                task.cancel()
                self._give_up()

    def chains(self) -> list[Mapping[str, Any]]:
        """Return what is known of each chain, and its ``age`` in seconds, by instance and time."""
        return self.run(lambda connection: connection.fetch(_CHAINS))

    def newer(self, known: Mapping[str, int]) -> list[Mapping[str, Any]]:
        """Return the next rows by time after the ``known`` last line of each chain."""
        positions = list(known), list(known.values())
        return self.run(lambda connection: connection.fetch(_NEWER, *positions))

    def lines(self, rest: str, *arguments: object) -> Iterator[RawLine]:
        """Yield the lines of a query; ``rest`` follows the table. Nothing else may run inside."""
        query = f"SELECT line FROM audit_lines {rest}"  # noqa: S608 - a literal of the caller

        async def begin(connection: asyncpg.Connection) -> Any:
            await connection.execute("BEGIN")
            return await connection.cursor(query, *arguments)

        cursor = self.run(begin)
        while rows := self.run(lambda _: cursor.fetch(1000)):
            yield from (RawLine(PLACE, 0, row["line"].encode()) for row in rows)
        self.run(lambda connection: connection.execute("ROLLBACK"))

    def purge(self, before: datetime) -> int:
        """Remove some lines from before a time, and keep an anchor; return how many there were."""
        done = self.run(lambda connection: connection.execute(_PURGE, before))
        return int(done.rpartition(" ")[2])


async def _connect(settings: Settings) -> asyncpg.Connection:
    import asyncpg  # noqa: PLC0415 - an extra

    table, password = settings.audit.ship, ""
    assert table is not None
    if table.password_file is not None:  # read at each connection, as it may be changed
        password = read_secret("password", None, table.password_file, settings.path.parent)
    session = {"application_name": "pexpolicy audit", "synchronous_commit": "on"}
    options = postgresql_options(table.url, password)
    connection = await asyncpg.connect(**options, timeout=10.0, server_settings=session)
    # Most users of the database have no right to create tables.
    if await connection.fetchval("SELECT to_regclass('audit_chains')") is None:
        await connection.execute(_SCHEMA)
    return connection


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
    """Copies the audit of one server, in a process of its own.

    After a start it sends the last two files again, in addition to those that were not sent: the
    chain and the number of a line are its key, so it is stored once. ``instance`` is that of lines
    without one.
    """

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
            chains = {**self._shipped.note.chains}
            for boot_id, seq in {row[0]: row[1] for row in self._rows}.items():
                chains[boot_id] = max(chains.pop(boot_id, 0), seq)
            until = self._rows[-1][3].timestamp() if self._rows else now
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
        known = {**self._shipped.note.chains, **{boot_id: row[1] for boot_id, row in sent.items()}}
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
        if isinstance(found, reader.Fault):
            continue
        content = found.raw.content
        if (match := TAIL.search(content)) is not None:
            boot_id, seq, digest = match[1].decode(), int(match[2]), match[3].decode()
            at = reader.time_of(found.event) or datetime.now(UTC)
            named, line = found.event.get("instance") or instance, content.decode().lstrip(" ")
            yield boot_id, seq, str(named), at, line, digest, found.event["event"] == END
