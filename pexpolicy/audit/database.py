"""The audit of several servers in PostgreSQL: its lines, and how far each chain was known to be.

``audit_chains`` has the head of each chain: what the file of its server had when the last lines
were shipped. It stays when the file is lost, or the lines are purged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from pexpolicy.audit.reader import RawLine
from pexpolicy.config.outgoing import postgresql_options
from pexpolicy.config.plugin_settings import SettingsError
from pexpolicy.config.secrets import SecretError, read_secret
from pexpolicy.errors import describe_network_error
from pexpolicy.tasks import hide

if TYPE_CHECKING:
    import asyncpg  # type: ignore[import-untyped]

    from pexpolicy.config.settings import Settings

CONNECT_S = 10.0
ANSWER_S = 60.0
"""Seconds for one statement, after which the connection is given up."""
ROWS = 1000
"""Rows that are read at a time."""
_EPOCH = datetime.min.replace(tzinfo=UTC)
PLACE = Path("database")
"""The place of its lines in messages."""
SCHEMA = """
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
_STORED = """
SELECT boot_id, greatest(purged_seq, coalesce((
    SELECT max(seq) FROM audit_lines WHERE audit_lines.boot_id = audit_chains.boot_id
), 0)) AS seq FROM audit_chains WHERE time > now() - make_interval(secs => $1)"""
_CHAINS = """
SELECT *, extract(epoch FROM now() - time)::float AS age FROM audit_chains
ORDER BY instance, time"""
_NEW = """
SELECT l.boot_id, l.seq, l.time, l.line FROM audit_lines l
JOIN unnest($1::text[], $2::bigint[]) AS known (boot_id, seq)
    ON l.boot_id = known.boot_id AND l.seq > known.seq
WHERE l.time >= $3 ORDER BY l.time, l.boot_id, l.seq LIMIT 1000"""
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
    INSERT INTO audit_chains
        (boot_id, instance, seq, hash, ended, pending, purged_seq, purged_hash)
    SELECT boot_id, instance, seq, left(right(line, 66), 64), true, false, seq,
        left(right(line, 66), 64)
    FROM audit_lines JOIN old USING (boot_id, seq)
    ON CONFLICT (boot_id) DO UPDATE
    SET purged_seq = excluded.purged_seq, purged_hash = excluded.purged_hash
)
DELETE FROM audit_lines USING old
WHERE audit_lines.boot_id = old.boot_id AND audit_lines.seq <= old.seq"""

T = TypeVar("T")


class DatabaseUnavailable(Exception):
    """The database cannot be used; the message says why."""


class Chain(NamedTuple):
    """What is known of a chain: its last line when its server was last heard of, at ``time``."""

    boot_id: str
    instance: str
    seq: int
    hash: str
    time: datetime
    ended: bool
    """Its last line is an end."""
    pending: bool
    """Its last lines were still to be shipped."""
    purged_seq: int
    """Its last line that was purged."""
    purged_hash: str
    age: float
    """Seconds since then."""


class Database:
    """A connection to the database of ``[audit.ship]``, opened when it is used.

    One thread uses it. Methods raise ``DatabaseUnavailable``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runner = asyncio.Runner()
        self._connection: asyncpg.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._give_up()
        self._runner.close()

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def run(self, work: Callable[[asyncpg.Connection], Awaitable[T]], limit: float = ANSWER_S) -> T:
        """Return what ``work`` returns; after ``limit`` seconds the connection is given up."""
        return self._runner.run(self._run(work, limit))

    async def _run(self, work: Callable[[asyncpg.Connection], Awaitable[T]], limit: float) -> T:
        async def connected() -> T:
            if self._connection is None:
                self._connection = await _connect(self._settings)
            return await work(self._connection)

        import asyncpg  # noqa: PLC0415 - an extra

        # The client may wait for a server that is frozen beyond any timeout of its own.
        task = asyncio.create_task(connected())
        hide(task)
        done, _ = await asyncio.wait({task}, timeout=limit)
        try:
            if not done:
                raise DatabaseUnavailable(f"the database has not answered within {limit:.0f} s")
            return task.result()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, EOFError) as error:
            raise DatabaseUnavailable(f"the database: {describe_network_error(error)}") from None
        except (SecretError, SettingsError) as error:
            raise DatabaseUnavailable(f"audit.ship: {error}") from None
        finally:
            if not task.done() or task.exception() is not None:
                task.cancel()
                self._give_up()

    def fetch(self, query: str, *arguments: object) -> list[Any]:
        """Return the rows of a query."""
        return self.run(lambda connection: connection.fetch(query, *arguments))

    def stored(self, seconds: float = 1e9) -> dict[str, int]:
        """Return the last line of each chain that is, or was, in the database, of those that were
        heard of within ``seconds``.
        """
        return {row["boot_id"]: row["seq"] for row in self.fetch(_STORED, seconds)}

    def newer(self, known: Mapping[str, int], since: datetime, seconds: float = 1e9) -> list[Any]:
        """Return the next rows by time after the ``known`` last line of each chain; of late lines,
        those before ``since`` follow when no others are left.
        """
        stored = self.stored(seconds)
        behind = {one: known.get(one, 0) for one, seq in stored.items() if known.get(one, 0) < seq}
        for begin in (since, _EPOCH) if behind else ():
            rows = self.fetch(_NEW, list(behind), list(behind.values()), begin)
            if rows:
                return rows
        return []

    def chains(self) -> list[Chain]:
        """Return what is known of each chain."""
        return [Chain(*(row[name] for name in Chain._fields)) for row in self.fetch(_CHAINS)]

    def lines(self, rest: str, *arguments: object) -> Iterator[RawLine]:
        """Yield the lines of a query, inside of ``snapshot``; ``rest`` follows the table."""
        query = f"SELECT line FROM audit_lines {rest}"  # noqa: S608 - a literal of the caller

        async def begin(connection: asyncpg.Connection) -> Any:
            return await connection.cursor(query, *arguments)

        cursor = self.run(begin)
        while rows := self.run(lambda _: cursor.fetch(ROWS)):
            yield from (RawLine(PLACE, 0, row["line"].encode()) for row in rows)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read the state of one moment inside."""
        self.run(lambda connection: connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ"))
        try:
            yield
        finally:
            with suppress(DatabaseUnavailable):
                self.run(lambda connection: connection.execute("ROLLBACK"))

    def purge(self, before: datetime) -> int:
        """Remove some lines from before a time, and keep an anchor; return how many there were."""
        done = self.run(lambda connection: connection.execute(_PURGE, before))
        return int(done.rpartition(" ")[2])


async def _connect(settings: Settings) -> asyncpg.Connection:
    import asyncpg  # noqa: PLC0415 - an extra

    table = settings.audit.ship
    assert table is not None
    password = ""
    if table.password_file is not None:
        # Read at each connection, as it may be changed.
        password = read_secret("password", None, table.password_file, settings.path.parent)
    connection = await asyncpg.connect(
        **postgresql_options(table.url, password),
        timeout=CONNECT_S,
        server_settings={"application_name": "pexpolicy audit", "synchronous_commit": "on"},
    )
    try:
        # Most users of the database have no right to create tables.
        if await connection.fetchval("SELECT to_regclass('audit_chains')") is None:
            await connection.execute(SCHEMA)
    except BaseException:
        connection.terminate()
        raise
    return connection
