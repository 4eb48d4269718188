"""Driver ``sql``: PostgreSQL by SQLAlchemy, SQLite by the standard library in threads."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

import pydantic_core
from pydantic import Field, model_validator
from typing_extensions import override
from yarl import URL

from pexpolicy import ConfigPath, Secret, SettingsError
from pexpolicy.config.outgoing import revealed, tls_context
from pexpolicy.errors import describe_network_error
from pexpolicy_sources.data_source import (
    STOP_S,
    Answer,
    DataSource,
    DataSourceSettings,
    QueryError,
    Row,
    SourceError,
    SourceUnavailableError,
    Value,
    one_line,
    unknown_parameter,
)

if TYPE_CHECKING:
    from sqlalchemy import RowMapping, TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class SqlSettings(DataSourceSettings):
    """``[sources.NAME]`` with ``driver = "sql"``. Times in seconds."""

    path: ConfigPath | None = None
    """A SQLite database, opened for reading only; either this or ``url``."""
    url: str | None = None
    """A PostgreSQL database: ``postgresql://USER@HOST:PORT/DATABASE``, or, for a socket,
    ``postgresql://USER@/DATABASE?host=FOLDER``.
    """
    password: Secret | None = None
    """The password for PostgreSQL."""
    tls: bool = True
    """Verified TLS to PostgreSQL; never used for a socket."""
    ca_file: ConfigPath | None = None
    """Certificates to trust instead of those of the system."""
    pool_size: int = Field(4, ge=1, le=100)
    """Connections to PostgreSQL that each process keeps; to SQLite, those open at a time."""

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("write path (a SQLite database) or url (a PostgreSQL database)")
        if self.url is not None:
            postgresql_url(self.url)
        elif self.password or self.ca_file:
            raise ValueError("password_env, password_file and ca_file are for PostgreSQL")
        return self


def postgresql_url(written: str) -> URL:
    """Parse the URL of a database; raises ``ValueError`` for credentials in it."""
    try:
        url = URL(written)
        _ = url.explicit_port
    except ValueError:
        url = URL()
    if url.scheme not in ("postgresql", "postgres") or not url.path.strip("/"):
        msg = "is not a URL of PostgreSQL: write postgresql://USER@HOST/DATABASE"
        if written.startswith("sqlite"):
            msg = 'write the file of a SQLite database in path, as in path = "rooms.db"'
        raise ValueError(msg)
    if url.raw_password is not None:
        raise ValueError("credentials are never in this file: write password_env or password_file")
    if unknown := sorted(url.query.keys() - {"host"}) or (url.fragment and ["#"]):
        msg = f"{unknown[0]} is not known: only ?host=FOLDER, the folder of a socket, may follow"
        raise ValueError(msg)
    return url


INSTRUCTIONS = 10_000
"""Instructions of SQLite between two looks at the deadline; about 0.1 ms."""
SERVER_EARLIER = 0.9
"""The part of the timeout after which PostgreSQL ends a statement by itself."""


def _postgresql(settings: SqlSettings) -> AsyncEngine:
    from sqlalchemy import URL as DatabaseURL  # noqa: N811, PLC0415 - an extra
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - an extra

    url = postgresql_url(settings.url or "")
    folder = url.query.get("host")
    arguments: dict[str, Any] = {
        "timeout": settings.timeout,
        "server_settings": {
            "application_name": "pexpolicy",
            "default_transaction_read_only": "on",
            "statement_timeout": str(round(settings.timeout * SERVER_EARLIER * 1000)),
        },
        "ssl": False if folder is not None or not settings.tls else tls_context(settings.ca_file),
    }
    address = DatabaseURL.create(
        "postgresql+asyncpg",
        username=url.user,
        password=revealed(settings.password) or None,
        host=url.host,
        port=url.explicit_port,
        database=url.path.strip("/"),
        query={} if folder is None else {"host": folder},
    )
    return create_async_engine(
        address,
        connect_args=arguments,
        hide_parameters=True,
        max_overflow=0,
        pool_size=settings.pool_size,
        pool_timeout=settings.snapshot_timeout,
        pool_use_lifo=True,
    )


def _named(query: TextClause) -> str:
    r"""Return a query with parameters as SQLite knows them: ``\:`` is a plain colon."""
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415 - the package is an extra

    return str(query.compile(dialect=sqlite.dialect(paramstyle="named")))


T = TypeVar("T")

_SETTINGS = {"08": "url", "28": "url and the password", "3D": "url", "42": "the query"}
"""By the class of an SQLSTATE: the settings that lead to it."""
CHECK_S = 2.0
"""Seconds for the columns of a query, while a policy is built."""
CHUNK = 500
"""Rows of a snapshot that are converted without a pause for other calls."""
_BEGIN = re.compile(
    r"(?:\s|\(|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*(?:select|with|from|values|table|show|describe|pragma"
    r"|explain|call|exec|execute|begin|declare|set)\b",
    re.DOTALL | re.IGNORECASE,
)
"""The first word of what returns rows in some database, after blanks and comments."""
_QUOTED = re.compile(r"'[^']*'")
_PLACEHOLDER = re.compile(r"(%s|%\(\w+\)s|(?<==)\s*\?|\{\w+\})")
"""Parameters as other programs write them; ``?`` alone is an operator of PostgreSQL."""
_UNAVAILABLE = ("08", "28", "3D", "53", "57")
"""Classes of SQLSTATE: connection, authentication, no such database, resources, intervention."""
_UNAVAILABLE_SQLITE = frozenset((5, 6, 9, 10, 14))
"""Codes of SQLite: busy, locked, interrupted, I/O error, cannot be opened."""
_WAL_SQLITE = ("SQLITE_READONLY_DIRECTORY", "SQLITE_READONLY_CANTINIT")
_PLAIN = frozenset((str, int, float, bool, type(None)))
_CLASS = re.compile(r"\A<class '[\w.]+'>: ")
"""What SQLAlchemy writes before the message of asyncpg."""
_ARGUMENT = re.compile(r"(query argument \$\d+: ).*(?= \()", re.DOTALL)
"""Where asyncpg shows a value, of which it cuts long ones."""


class SqlSource(DataSource[SqlSettings, "TextClause"]):
    """A database. Queries are SQL, with parameters such as ``:alias`` that the driver binds."""

    Settings = SqlSettings

    def __init__(self, settings: SqlSettings) -> None:
        super().__init__(settings)
        extra, driver = ("sqlite", "sqlalchemy") if settings.path else ("postgresql", "asyncpg")
        try:
            import_module(driver)
        except ImportError as error:
            text = f"{error}: pip install 'pexpolicy-sources[{extra}]'"
            raise SettingsError(text, key="driver") from None
        self._engine: AsyncEngine | None = None
        self._threads: ThreadPoolExecutor | None = None

    @override
    async def open(self) -> None:
        if self.settings.path is None:
            self._engine = _postgresql(self.settings)
        else:
            self._threads = ThreadPoolExecutor(self.settings.pool_size, "source-sqlite")

    @override
    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        if self._engine is not None:
            await self._engine.dispose()

    def parameters(self, query: str) -> list[str]:
        """Return the names of the parameters of a query, such as ``alias`` for ``:alias``."""
        from sqlalchemy import text  # noqa: PLC0415 - the package is an extra

        return list(text(query).compile().params)

    @override
    def prepare(self, query: str, parameters: Collection[str]) -> TextClause:
        from sqlalchemy import text  # noqa: PLC0415 - the package is an extra

        if _BEGIN.match(query) is None:
            raise ValueError('does not begin like a query; write one such as "SELECT * FROM rooms"')
        plain = _QUOTED.sub("", query)
        if (other := _PLACEHOLDER.search(plain)) is not None:
            example = next(iter(parameters), "alias")
            raise ValueError(f"has {other[1].strip()}: write a parameter as :{example}")
        for name in self.parameters(query):
            if name not in parameters:
                raise unknown_parameter(":{}", name, parameters)
            if name not in self.parameters(plain):
                raise ValueError(f"has :{name} in quotes, where it is text: leave them out")
        return text(query)

    @override
    async def fetch(
        self, query: TextClause, parameters: Mapping[str, Value], previous: Answer | None
    ) -> Answer:
        bound = {name: parameters[name] for name in query.compile().params}
        shown = [str(value) for value in bound.values()]
        if self.settings.path is not None:
            return await self._read(query, self.settings.timeout, bound, shown)

        async def ask(connection: AsyncConnection) -> list[Row]:
            # Without a transaction it is one round trip.
            direct = await connection.execution_options(isolation_level="AUTOCOMMIT")
            result = await direct.execute(query, bound)
            return _json_rows(result.mappings().all())

        return Answer(await self._run(ask, values=shown))

    @override
    async def fetch_all(self, query: TextClause, previous: Answer | None) -> Answer:
        timeout = self.settings.snapshot_timeout
        if self.settings.path is not None:
            return await self._read(query, timeout, {}, ())

        async def ask(connection: AsyncConnection) -> list[Row]:
            await connection.exec_driver_sql(
                f"SET LOCAL statement_timeout = {round(timeout * 1000)}"
            )
            rows: list[Row] = []
            async with connection.stream(query) as result:
                async for chunk in result.mappings().partitions(CHUNK):
                    rows += _json_rows(chunk)
                    await asyncio.sleep(0)
            return rows

        return Answer(await self._run(ask))

    async def _read(
        self, query: TextClause, limit: float, bound: Mapping[str, Value], values: Sequence[str]
    ) -> Answer:
        """Return what SQLite answers; ``values`` are in no message. Raises ``SourceError``."""

        def read() -> list[Row]:
            with self._sqlite(limit, values) as connection:
                return _json_rows(connection.execute(_named(query), bound).fetchall())

        if self._threads is None:
            raise SourceUnavailableError("the source is not open")
        return Answer(await asyncio.get_running_loop().run_in_executor(self._threads, read))

    @contextmanager
    def _sqlite(self, limit: float, values: Sequence[str] = ()) -> Iterator[sqlite3.Connection]:
        """Open SQLite for a query that ends after ``limit`` seconds, or with the source.

        A file that an export has replaced would be read for ever by a connection that stays.
        """
        path, threads, deadline = self.settings.path, self._threads, time.monotonic() + limit
        # SQLite would wait for the other end of a pipe.
        if path is None or not (os.access(path, os.R_OK) and path.is_file()):
            raise SourceUnavailableError(f"{path} is no file that can be read")

        def is_over() -> bool:
            return self._threads is not threads or time.monotonic() > deadline

        try:
            address = f"file:{quote(str(path.absolute()))}?mode=ro"
            with closing(sqlite3.connect(address, timeout=limit, uri=True)) as connection:
                connection.set_progress_handler(is_over, INSTRUCTIONS)
                connection.row_factory = sqlite3.Row
                yield connection
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise _refusal(error, values) from None

    def columns(self, query: str) -> list[str]:
        """Return the names of the columns of a query, which is not executed.

        Blocks for some ``CHECK_S`` seconds at most, and needs no open source. Raises
        ``SourceError``.
        """
        from sqlalchemy import text  # noqa: PLC0415 - the package is an extra

        inner = query.strip().rstrip(";")
        statement = text(f"SELECT * FROM (\n{inner}\n) AS query LIMIT 0")  # noqa: S608 - a setting
        nothing = dict.fromkeys(statement.compile().params)
        if self.settings.path is not None:
            with self._sqlite(CHECK_S) as connection:
                cursor = connection.execute(_named(statement), nothing)
                return [name for name, *_ in cursor.description]
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._columns(statement, nothing)).result()

    async def _columns(self, statement: TextClause, nothing: Mapping[str, None]) -> list[str]:
        async def ask(connection: AsyncConnection) -> list[str]:
            return list((await connection.execute(statement, nothing)).keys())

        engine = _postgresql(self.settings)
        try:
            async with asyncio.timeout(CHECK_S):
                return await self._run(ask, engine)
        except TimeoutError as error:
            raise SourceUnavailableError(describe_network_error(error)) from None
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await engine.dispose()

    async def _run(
        self,
        ask: Callable[[AsyncConnection], Awaitable[T]],
        engine: AsyncEngine | None = None,
        values: Sequence[str] = (),
    ) -> T:
        """Return what ``ask`` returns; ``values`` are in no message. Raises ``SourceError``."""
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError  # noqa: PLC0415 - an extra

        engine = engine or self._engine
        if engine is None:
            raise SourceUnavailableError("the source is not open")
        for is_last in (False, True):
            try:
                async with engine.connect() as connection:
                    return await ask(connection)
            except DBAPIError as error:
                # A server that was restarted has closed the connections of the pool, and a changed
                # table makes asyncpg prepare the statements again.
                outdated = getattr(engine.dialect.dbapi, "InvalidCachedStatementError", ())
                may_repeat = error.connection_invalidated or isinstance(error.orig, outdated)
                if is_last or not may_repeat:
                    raise _refusal(error, values) from None
            except SQLAlchemyError as error:
                raise SourceUnavailableError(one_line(str(error))) from None
            except OSError as error:
                text = f"{describe_network_error(error)}; check url"
                raise SourceUnavailableError(text) from None
            except (ValueError, OverflowError) as error:
                # Such as a date before the year 1.
                raise QueryError(f"a value cannot be read: {one_line(str(error))}") from None
        raise AssertionError


def _refusal(error: Exception, values: Sequence[str]) -> SourceError:
    """Return why a database failed, without the statement and its parameters."""
    cause = getattr(error, "orig", error)
    text = _ARGUMENT.sub(r"\1***", _CLASS.sub("", str(cause)))
    for value in sorted(filter(None, values), key=len, reverse=True):
        text = text.replace(f'"{value}"', '"***"')
    text = one_line(text)
    if getattr(cause, "sqlite_errorname", "") in _WAL_SQLITE:
        text = "the database is in WAL mode: reading needs the right to write its folder"
    state = str(getattr(cause, "sqlstate", None) or "")
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if setting := _SETTINGS.get(state[:2]):
        text += f"; check {setting}"
    is_down = state.startswith(_UNAVAILABLE) or code in _UNAVAILABLE_SQLITE
    if is_down or getattr(error, "connection_invalidated", False):
        return SourceUnavailableError(text)
    return QueryError(text)


def _json_rows(rows: Sequence[RowMapping | sqlite3.Row]) -> list[Row]:
    """Return rows with values that JSON has: dates, numerics and UUIDs as text, bytes as Base64.

    Raises ``QueryError`` for other types.
    """
    plain: list[Row] = [dict(row) for row in rows]
    for row in plain:
        for name, value in row.items():
            if isinstance(value, bytes):
                row[name] = base64.b64encode(value).decode()
            elif type(value) not in _PLAIN:
                try:
                    row[name] = pydantic_core.to_jsonable_python(value, bytes_mode="base64")
                except ValueError:
                    what = f"the column {name} has what JSON cannot hold ({type(value).__name__})"
                    raise QueryError(f"{what}: write CAST({name} AS text)") from None
    return plain
