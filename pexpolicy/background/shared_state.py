"""The state that the processes of one server, or several servers, share: SQLite, and its limits.

All statements are written in one dialect for SQLite and PostgreSQL: ``$1`` is the first argument,
``$now`` the clock of the engine in seconds since 1970, ``$tables`` has the ``name`` of each table,
and in ``CREATE TABLE`` the type ``$text`` is text that is compared by code points.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import uuid
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from pexpolicy.chain.circuit_breaker import CircuitBreaker
from pexpolicy.errors import Log, describe_error

SCHEMA = 1
"""The version of the tables. A server also works with those of the version before."""
TABLES = (
    "CREATE TABLE IF NOT EXISTS pexpolicy_schema (version bigint NOT NULL)",
    """CREATE TABLE IF NOT EXISTS pexpolicy_shared (name $text, key $text, part $text,
    value $text, amount bigint, taken_by $text, expires double precision NOT NULL,
    PRIMARY KEY (name, key, part))""",
    "CREATE INDEX IF NOT EXISTS pexpolicy_shared_expire ON pexpolicy_shared (expires)",
    f"""INSERT INTO pexpolicy_schema SELECT {SCHEMA}
    WHERE NOT EXISTS (SELECT 1 FROM pexpolicy_schema)""",  # noqa: S608 - a constant
)
"""A holder of a lease and a slot of a counter is a ``part``; an entry of a store has an empty one.
"""
VERSION = "SELECT version FROM pexpolicy_schema"
FROM = "FROM pexpolicy_shared WHERE name = $1 AND expires > $now"
PRESENT = f"{FROM} AND key = $2"
EXPIRES = "$now + CAST($4 AS double precision)"
PLACE = (
    "SELECT CAST($1 AS text), CAST($2 AS text), CAST($3 AS text), " + EXPIRES + " WHERE"
    f" (CAST($5 AS bigint) IS NULL OR (SELECT count(*) {PRESENT}) < CAST($5 AS bigint)"
    f" OR EXISTS (SELECT 1 {PRESENT} AND part = $3))"
)
ACQUIRE = (
    f"INSERT INTO pexpolicy_shared (name, key, part, expires) {PLACE}"
    " ON CONFLICT (name, key, part) DO UPDATE SET expires ="
    " CASE WHEN excluded.expires > pexpolicy_shared.expires"
    " THEN excluded.expires ELSE pexpolicy_shared.expires END RETURNING 1"
)
"""Give a place to a holder, unless the key has as many as it may; returns a row if it has one."""
SWEPT_AT_ONCE = 500
_SWEEP = """DELETE FROM pexpolicy_shared WHERE (name, key, part) IN
(SELECT name, key, part FROM pexpolicy_shared WHERE expires <= $now - $1 LIMIT $2) RETURNING 1"""
SWEEP_S = 60.0
CLOSE_S = 1.0
OPEN_S = 2.0
MAX_FAILURES = 3
"""Failures in a row after which the engine is asked once a second only."""
CONNECTIONS = 8
"""Connections of one process to a database; further operations wait for one."""
DONE, FAILED, TIMED_OUT, REFUSED = OUTCOMES = ("done", "failed", "timed_out", "refused")
"""What may become of an operation; the last one was not tried, as the engine has failed before."""

Statement = tuple[str, Sequence[Any]]
"""SQL and its arguments; a list of tuples executes it once for each, and returns no rows."""
Statements = Sequence[Statement]
Rows = list[tuple[Any, ...]]


class SharedUnavailableError(Exception):
    """Shared state cannot be read or changed now. A change may have been made nevertheless."""


class SetupError(SharedUnavailableError):
    """Shared state can never be used as it is configured, such as tables of a newer version."""


def check_schema(found: Rows) -> None:
    """Check the version of the tables; raises ``SetupError``."""
    for (version,) in found:
        if not SCHEMA - 1 <= version <= SCHEMA:
            raise SetupError(f"its tables have schema {version}, and this version {SCHEMA}")


class SharedState(ABC):
    """A database whose operations are abandoned after ``timeout`` seconds.

    It is opened by the first one, and again after a failure. ``is_dry``: nothing is ever written,
    nor created.
    """

    acquire = ACQUIRE
    """The statement that gives a place to a holder. Of two for one key, one runs after the other.
    """
    exists = True
    """False while nothing was ever written, and nothing needs to be read."""
    folder: Path | None = None
    """That of a database in a file."""
    is_remote = False
    """True for a database that servers share."""
    _words: ClassVar[Mapping[str, str]]
    """What this database has for the words with ``$``."""
    _mistakes: ClassVar[tuple[type[Exception], ...]]
    """Errors of a statement or its arguments, which say nothing about the database."""

    def __init__(
        self, timeout: float = 0.25, *, log: Log | None = None, is_dry: bool = False
    ) -> None:
        self.is_dry = is_dry
        self.problem = ""
        """Why the last operation failed; empty after a success."""
        self.users = 0
        """Policies that have it open."""
        self.process = str(uuid.uuid4())
        """Identifies this process among those of all servers."""
        self.password = ""
        """That of a database, which a reload may change."""
        self._timeout = timeout
        self._log = log
        self._failures = 0
        """Since the last success: a few among many successes are no outage."""
        self._breaker = CircuitBreaker(failures=1, pause=1.0)
        self.counted = Counter[tuple[str]]()
        """Operations by outcome that were not added to the metrics yet."""
        self._created = set[tuple[str, ...]]()

    @abstractmethod
    def _start(self, statements: Statements, locks: Iterable[str]) -> Awaitable[list[Rows]]:
        """Run statements in one transaction, and return the rows of each. May be cancelled.

        Of two transactions with the same lock, one begins after the other has ended.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close the connections, without waiting for what hangs."""

    @property
    def is_available(self) -> bool:
        """False while the database is not asked, except once a second."""
        return not self._breaker.is_open

    async def run(
        self,
        *statements: Statement,
        locks: Iterable[str] = (),
        timeout: float | None = None,  # noqa: ASYNC109 - not a cancellation
    ) -> list[Rows]:
        """Run statements in one transaction, and return the rows of each.

        After ``timeout`` seconds it is abandoned: a time limit around the client of a database does
        not bound the call, as the client waits for the end of its own cancellation. Raises
        ``SharedUnavailableError``, and the errors of wrong statements and arguments as they are.
        """
        loop = asyncio.get_running_loop()
        if not self._breaker.allows_call(loop.time()):
            self.counted[REFUSED,] += 1
            raise SharedUnavailableError(f"shared state is not available: {self.problem}")
        limit = self._timeout if timeout is None else timeout
        given = [(self._translated(sql), arguments) for sql, arguments in statements]
        running = asyncio.ensure_future(self._start(given, locks))
        try:
            await asyncio.wait((running,), timeout=limit)
        finally:
            if not running.done():
                running.add_done_callback(lambda one: one.cancelled() or one.exception())
                running.cancel()
        if not running.done() or running.cancelled():
            raise self._failure(TIMED_OUT, f"no answer within {limit:.3g} s")
        error = running.exception()
        if isinstance(error, SetupError):
            raise error
        if error is not None and not isinstance(error, self._mistakes):
            raise self._failure(FAILED, describe_error(error).summary) from error
        self.counted[DONE,] += 1
        self.problem, self._failures = "", 0
        if self._breaker.record_success() and self._log is not None:
            self._log.warning("shared state is available again")
        return running.result()

    def _failure(self, outcome: str, why: str) -> SharedUnavailableError:
        self.counted[outcome,] += 1
        self.problem = why
        self._failures += 1
        now = asyncio.get_running_loop().time()
        opens = self._failures >= MAX_FAILURES and self._breaker.record_failure(now)
        if opens and self._log is not None:
            self._log.warning("shared state is not available", problem=why)
        return SharedUnavailableError(f"shared state is not available: {why}")

    async def check(self) -> None:
        """Open all connections, if the database is available; raises ``SetupError``."""
        looks = (self.run(("SELECT 1", ()), timeout=OPEN_S) for _ in range(CONNECTIONS))
        for error in await asyncio.gather(*looks, return_exceptions=True):
            if isinstance(error, SetupError):
                raise error

    async def create(self, statements: tuple[str, ...]) -> bool:
        """Create tables of a plugin, once in this process: ``CREATE TABLE IF NOT EXISTS``.

        Return whether they are there, which may be false in a dry run.
        """
        if statements in self._created:
            return True
        if self.is_dry:
            table = statements[0].split("(")[0].split()[-1]
            return bool((await self.run(("SELECT 1 FROM $tables WHERE name = $1", (table,))))[0])
        # Each in its own transaction: holding an index lock while waiting for a row is a deadlock.
        for sql in statements:
            await self.run((sql, ()), locks=("create",), timeout=5.0)
        self._created.add(statements)
        return True

    async def sweep(self, age: float = SWEEP_S) -> None:
        """Delete what has expired ``age`` seconds ago, in parts that delay no call."""
        deleted = SWEPT_AT_ONCE
        while deleted == SWEPT_AT_ONCE:
            deleted = len((await self.run((_SWEEP, (age, SWEPT_AT_ONCE))))[0])
            await asyncio.sleep(0.01)

    def _translated(self, sql: str) -> str:
        """Return a statement in the dialect of the database."""
        for word, text in self._words.items():
            sql = sql.replace(word, text)
        return sql


class SqliteState(SharedState):
    """A SQLite database that processes of one server share; without a path one in memory."""

    _words = {
        "$now": "((julianday('now') - 2440587.5) * 86400.0)",
        "$tables": "sqlite_master",
        "$text": "text",
    }
    _mistakes = (
        *(sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError),
        *(sqlite3.DataError, ValueError, TypeError, OverflowError),
    )

    def __init__(self, path: Path | None = None, timeout: float = 0.25, **options: Any) -> None:
        super().__init__(timeout, **options)
        self._path = path
        self.folder = path and path.parent
        self._connection: sqlite3.Connection | None = None
        self._reader: SqliteState | None = None  # so that reads wait for no transaction
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="pexpolicy-shared")

    @property
    def exists(self) -> bool:  # type: ignore[override]
        """True once there is a database."""
        return self._path is None or self._path.exists()

    def _start(self, statements: Statements, locks: Iterable[str]) -> Awaitable[list[Rows]]:
        """Run statements; there is one writer at a time."""
        reads = len(statements) == 1 and statements[0][0].startswith("SELECT")
        state = (reads and self._reader) or self
        return asyncio.get_running_loop().run_in_executor(state.thread, state.execute, statements)

    def execute(self, statements: Statements) -> list[Rows]:
        """Run statements, in the thread of the connection."""
        try:
            connection = self._connection or self._open()
            if len(statements) == 1 and not isinstance(statements[0][1], list):
                return [_execute(connection, *statements[0])]
            connection.execute("BEGIN" if self.is_dry else "BEGIN IMMEDIATE")
            found = [_execute(connection, *statement) for statement in statements]
            connection.execute("COMMIT")
        except BaseException as error:
            if not isinstance(error, self._mistakes):
                self._close()  # the file may have been replaced
            elif self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return found

    def _open(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < (3, 35):
            raise SetupError(f"needs SQLite 3.35, and this one is {sqlite3.sqlite_version}")
        path, name = self._path, ":memory:"
        if path is not None and not self.is_dry:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                # To close a file ends the locks that this process has on it: only a new one.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if path is not None and path.exists():
            name = f"file:{quote(str(path.absolute()))}?mode={'ro' if self.is_dry else 'rw'}"
        self._connection = connection = sqlite3.connect(
            name, timeout=self._timeout, isolation_level=None, check_same_thread=False, uri=True
        )
        weakref.finalize(self, connection.close)
        if name == ":memory:" or not self.is_dry:
            for _ in range(100):  # SQLite does not wait while another process does the same
                with suppress(sqlite3.OperationalError):
                    connection.execute("PRAGMA journal_mode = WAL")
                    break
                time.sleep(0.005)
            # A power failure may undo the last transactions, and never a part of one.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            for create in TABLES:
                connection.execute(self._translated(create))
            connection.execute("COMMIT")
        check_schema(_execute(connection, VERSION, ()))
        if path is not None and not self.is_dry:
            self._reader = SqliteState(path, self._timeout, is_dry=True)
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = self._reader = None

    async def close(self) -> None:
        """Close the database once what runs has ended; a thread that hangs is left alone."""
        if self._reader is not None:
            await self._reader.close()
        closed = asyncio.get_running_loop().run_in_executor(self.thread, self._close)
        await asyncio.wait((closed,), timeout=CLOSE_S)
        self.thread.shutdown(wait=False)


def _execute(connection: sqlite3.Connection, sql: str, arguments: Sequence[Any]) -> Rows:
    if isinstance(arguments, list):
        for row in arguments:  # executemany takes no RETURNING
            connection.execute(sql, _numbered(row)).close()
        return []
    return connection.execute(sql, _numbered(arguments)).fetchall()


def _numbered(arguments: Sequence[Any]) -> dict[str, Any]:
    """Return arguments by their numbers, which is how ``sqlite3`` finds those of ``$1``."""
    return {str(number): value for number, value in enumerate(arguments, 1)}
