"""Shared state of several servers: PostgreSQL by asyncpg, an extra of ``pexpolicy-sources``."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from pexpolicy.background.shared_state import (
    ACQUIRE,
    CLOSE_S,
    CONNECTIONS,
    TABLES,
    VERSION,
    Rows,
    SharedState,
    Statements,
    check_schema,
)
from pexpolicy.config.outgoing import postgresql_options
from pexpolicy.tasks import end_tasks, start_background

WORK_S = 5.0
"""Seconds after which an operation that was abandoned loses its connection."""
_MISSING = asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError
_SESSION = {
    "application_name": "pexpolicy",
    "default_transaction_isolation": "read committed",  # a statement sees what a lock waited for
    # What was abandoned, or belongs to a process that hangs, must not hold a lock for long.
    "idle_in_transaction_session_timeout": "2000",
    "statement_timeout": "5000",
}
_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'"
)
"""Else a crash of the database would give a place twice."""
_FUNCTION = f"""CREATE OR REPLACE FUNCTION
pexpolicy_acquire(text, text, text, double precision, bigint) RETURNS SETOF integer
LANGUAGE plpgsql AS $function$ BEGIN
PERFORM pg_advisory_xact_lock(hashtextextended($1 || $2, 0));
RETURN QUERY {ACQUIRE}; END $function$"""
"""In one round trip: what holds a lock over several is slow where many ask for one key."""


class PostgresqlState(SharedState):
    """A database of PostgreSQL.

    An operation that is abandoned ends in the background, and keeps its connection until then.
    """

    acquire = "SELECT * FROM pexpolicy_acquire($1, $2, $3, $4, $5)"
    is_remote = True
    _words = {
        "$now": "CAST(extract(epoch FROM statement_timestamp()) AS double precision)",
        "$tables": "(SELECT CAST(relname AS text) AS name FROM pg_catalog.pg_class) AS tables",
        "$text": 'text COLLATE "C"',
    }
    _mistakes = (
        *(asyncpg.DataError, asyncpg.IntegrityConstraintViolationError),
        *(asyncpg.SyntaxOrAccessError, ValueError, TypeError),
    )

    def __init__(self, url: str, password: str, timeout: float = 0.25, **options: Any) -> None:
        super().__init__(timeout, **options)
        session = {**_SESSION, "default_transaction_read_only": "on" if self.is_dry else "off"}
        self.password = password
        self._options = {**postgresql_options(url, ""), "server_settings": session}
        self._is_checked = False
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._idle = list[asyncpg.Connection]()
        self._tasks = set[asyncio.Task[list[Rows]]]()

    async def _start(self, statements: Statements, locks: Iterable[str]) -> list[Rows]:
        """Run statements over a connection of their own."""
        await self._free.acquire()
        # It goes on when it is abandoned, as asyncpg would wait for its own cancellation.
        return await asyncio.shield(start_background(self._work(statements, locks), self._tasks))

    async def _work(self, statements: Statements, locks: Iterable[str]) -> list[Rows]:
        try:
            connection = await self._connection()
            # It ends a statement of a server that is gone without a word.
            end = asyncio.get_running_loop().call_later(WORK_S, connection.terminate)
            try:
                try:
                    found = await _transaction(connection, statements, locks)
                except asyncpg.DeadlockDetectedError:  # the database has undone one of the two
                    await connection.execute("ROLLBACK")
                    found = await _transaction(connection, statements, locks)
            except BaseException:
                connection.terminate()
                raise
            finally:
                end.cancel()
            self._idle.append(connection)
        except _MISSING as error:  # it is another database than before, such as a restored one
            self._is_checked = False
            self._created.clear()
            while self._idle:
                self._idle.pop().terminate()
            raise ConnectionError(str(error)) from error
        else:
            return found
        finally:
            self._free.release()

    async def _connection(self) -> asyncpg.Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        options = {**self._options, "password": self.password or None}
        connection = await asyncpg.connect(**options, timeout=WORK_S)
        try:
            await connection.execute(_DURABLE)
            if not self._is_checked:
                await self._check(connection)
                self._is_checked = True
        except BaseException as error:
            connection.terminate()
            if isinstance(error, self._mistakes):  # such as rights that are missing
                raise ConnectionError(str(error)) from error
            raise
        return connection

    async def _check(self, connection: asyncpg.Connection) -> None:
        """Create the tables, unless others have; raises ``SetupError``."""
        exists = "SELECT 1 WHERE to_regclass('pexpolicy_schema') IS NOT NULL"
        if not await connection.fetch(exists):
            if self.is_dry:
                raise ConnectionError("it has no tables yet: start the server first")
            opening = [(self._translated(sql), ()) for sql in (*TABLES, _FUNCTION)]
            await _transaction(connection, opening, ("open",))
        check_schema(await connection.fetch(VERSION))

    async def close(self) -> None:
        """Close the connections; those of a server that hangs without waiting for it."""
        await end_tasks(self._tasks, CLOSE_S)
        closing = {asyncio.ensure_future(one.close(timeout=CLOSE_S)) for one in self._idle}
        self._idle.clear()
        if closing:
            await asyncio.wait(closing, timeout=2 * CLOSE_S)


async def _transaction(
    connection: asyncpg.Connection, statements: Statements, locks: Iterable[str]
) -> list[Rows]:
    """Run statements; a single one is a transaction by itself."""
    # In one order, so that none wait in a circle; of few, as a database has memory for thousands.
    numbers = sorted({hashlib.sha256(lock.encode()).digest()[0] for lock in locks})
    begins = numbers or len(statements) > 1
    if begins:  # the first number is our own: other programs may have locks
        locked = (f"; SELECT pg_advisory_xact_lock(1885697136, {number})" for number in numbers)
        await connection.execute(f"BEGIN{''.join(locked)}")
    found = list[Rows]()
    for sql, arguments in statements:
        if isinstance(arguments, list):
            await connection.executemany(sql, arguments)
            found.append([])
        else:
            found.append([tuple(row) for row in await connection.fetch(sql, *arguments)])
    if begins:
        await connection.execute("COMMIT")
    return found
