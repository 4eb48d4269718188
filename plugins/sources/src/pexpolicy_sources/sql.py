"""Driver ``sql``: PostgreSQL and SQLite databases."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import pydantic_core
from typing_extensions import override

from pexpolicy import SettingsError
from pexpolicy.text import did_you_mean
from pexpolicy_sources.data_source import STOP_S, DataSource
from pexpolicy_sources.rows import (
    Answer,
    QueryError,
    Row,
    SourceError,
    SourceUnavailableError,
    Value,
    describe,
    one_line,
)
from pexpolicy_sources.sql_engine import DEADLINE, SqlSettings, make_engine

if TYPE_CHECKING:
    from sqlalchemy import RowMapping, TextClause
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")

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
        extra = "sqlite" if settings.url is None else "postgresql"
        try:
            self._make_engine = make_engine(settings)
        except ImportError as error:
            text = f"needs the package {error.name}: pip install 'pexpolicy-sources[{extra}]'"
            raise SettingsError(text, key=("driver",)) from None
        self._engine: AsyncEngine | None = None

    @override
    async def open(self) -> None:
        self._engine = self._make_engine()

    @override
    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    def parameters(self, query: str) -> list[str]:
        """Return the names of the parameters of a query, such as ``alias`` for ``:alias``."""
        from sqlalchemy import text  # noqa: PLC0415 - the package is an extra

        return list(text(query).compile().params)

    @override
    def prepare(self, query: str, parameters: Collection[str]) -> TextClause:
        from sqlalchemy import text  # noqa: PLC0415 - the package is an extra

        if not query.strip():
            raise ValueError('is empty: write a query such as "SELECT * FROM rooms"')
        if _BEGIN.match(query) is None:
            guess = did_you_mean(query.split(maxsplit=1)[0].lower(), ["select"])
            guess = guess or '; write one such as "SELECT * FROM rooms"'
            raise ValueError(f"does not begin like a query{guess}")
        if (other := _PLACEHOLDER.search(_QUOTED.sub("", query))) is not None:
            example = next(iter(parameters), "alias")
            raise ValueError(f"has {other[1].strip()}: write a parameter as :{example}")
        for name in self.parameters(query):
            if name not in parameters:
                there = ", ".join(f":{known}" for known in parameters) or "none"
                raise ValueError(f"has the parameter :{name}; there is: {there}")
        return text(query)

    @override
    async def fetch(
        self, query: TextClause, parameters: Mapping[str, Value], previous: Answer | None
    ) -> Answer:
        names = query.compile().params

        async def ask(connection: AsyncConnection) -> list[Row]:
            # Without a transaction it is one round trip.
            direct = await connection.execution_options(isolation_level="AUTOCOMMIT")
            bound = {name: parameters[name] for name in names}
            result = await direct.execute(query, bound)
            return _json_rows(result.mappings().all())

        shown = [str(parameters[name]) for name in names]
        return Answer(await self._run(ask, self.settings.timeout, values=shown))

    @override
    async def fetch_all(self, query: TextClause, previous: Answer | None) -> Answer:
        timeout = self.settings.snapshot_timeout

        async def ask(connection: AsyncConnection) -> list[Row]:
            if self.settings.url is not None:
                await connection.exec_driver_sql(
                    f"SET LOCAL statement_timeout = {round(timeout * 1000)}"
                )
            rows: list[Row] = []
            async with connection.stream(query) as result:
                async for chunk in result.mappings().partitions(CHUNK):
                    rows += _json_rows(chunk)
                    await asyncio.sleep(0)
            return rows

        return Answer(await self._run(ask, timeout))

    def columns(self, query: str) -> list[str]:
        """Return the names of the columns of a query, which is not executed.

        Blocks for some ``CHECK_S`` seconds at most, and needs no open source. Raises
        ``SourceError``.
        """
        path = self.settings.path
        if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
            # The driver would leave a thread that ends after the event loop.
            raise SourceUnavailableError(f"{path} is not a file that can be read")
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._columns(query)).result()

    async def _columns(self, query: str) -> list[str]:
        from sqlalchemy import text  # noqa: PLC0415 - the package is an extra

        inner = query.strip().rstrip(";")
        statement = text(f"SELECT * FROM (\n{inner}\n) AS query LIMIT 0")  # noqa: S608 - a setting
        nothing = dict.fromkeys(statement.compile().params)

        async def ask(connection: AsyncConnection) -> list[str]:
            return list((await connection.execute(statement, nothing)).keys())

        engine = self._make_engine()
        try:
            async with asyncio.timeout(CHECK_S):
                return await self._run(ask, CHECK_S, engine)
        except TimeoutError as error:
            raise SourceUnavailableError(describe(error)) from None
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await engine.dispose()

    async def _run(
        self,
        ask: Callable[[AsyncConnection], Awaitable[T]],
        limit: float,
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
                    assert connection.sync_connection is not None
                    connection.sync_connection.info[DEADLINE] = time.monotonic() + limit
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
                raise SourceUnavailableError(describe(error)) from None
            except (ValueError, OverflowError) as error:
                # Such as a date before the year 1.
                raise QueryError(f"a value cannot be read: {one_line(str(error))}") from None
        raise AssertionError


def _refusal(error: DBAPIError, values: Sequence[str]) -> SourceError:
    """Return why a database failed, without the statement and its parameters."""
    text = _ARGUMENT.sub(r"\1***", _CLASS.sub("", str(error.orig)))
    for value in sorted(filter(None, values), key=len, reverse=True):
        text = text.replace(f'"{value}"', '"***"')
    text = one_line(text)
    if getattr(error.orig, "sqlite_errorname", "") in _WAL_SQLITE:
        text = "the database is in WAL mode: reading needs the right to write its folder"
    state = str(getattr(error.orig, "sqlstate", None) or "")
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    is_down = state.startswith(_UNAVAILABLE) or code in _UNAVAILABLE_SQLITE
    if error.connection_invalidated or is_down:
        return SourceUnavailableError(text)
    return QueryError(text)


def _json_rows(rows: Sequence[RowMapping]) -> list[Row]:
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
