"""The audit of several servers in PostgreSQL.

``audit_lines`` has the lines. ``audit_chains`` has the last line of each chain that was seen in the
file of its server, when that was, and the last line that was purged: it stays when a file is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pexpolicy.audit.reader import RawLine
from pexpolicy.config.outgoing import postgresql_options
from pexpolicy.config.plugin_settings import SettingsError
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
            is_lost = self._connection is not None and self._connection.is_closed()
            why = "the connection was lost" if is_lost else describe_network_error(error)
            raise DatabaseUnavailable(why) from None
        except (SecretError, SettingsError) as error:
            raise DatabaseUnavailable(str(error)) from None
        finally:
            if not task.done() or task.exception() is not None:
                task.cancel()
                self._give_up()

    def fetch(self, query: str, *arguments: object) -> list[Mapping[str, Any]]:
        """Return the rows of a query."""
        return self.run(lambda connection: connection.fetch(query, *arguments))

    def chains(self) -> list[Mapping[str, Any]]:
        """Return what is known of each chain, and its ``age`` in seconds, by instance and time."""
        return self.fetch(_CHAINS)

    def newer(self, known: Mapping[str, int]) -> list[Mapping[str, Any]]:
        """Return the next rows by time after the ``known`` last line of each chain."""
        return self.fetch(_NEWER, list(known), list(known.values()))

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
