"""Loader: lines of a CSV file into a table, some hundreds at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Column, MetaData, String, Table, delete, exists, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from pexpolicy.config.csv_tables import Row, TableError, TableIssue, TableRow, stream_table
from pexpolicy.text import brief
from pexpolicy_sources.sql_settings import SqlSettings
from pexpolicy_sql.csv_rows import Kind, Record
from pexpolicy_sql.database import writing
from pexpolicy_sql.room_aliases import RoomAliases
from pexpolicy_sql.tables import MAX, ROOMS

BATCH = 500
"""Lines that are in memory at a time."""
Line = Row[TableRow] | TableIssue


class Loaded(NamedTuple):
    """What was done with a file, in lines; ``deleted`` are rows."""

    loaded: int
    left_out: int
    deleted: int


async def load_file(
    settings: SqlSettings,
    kind: Kind,
    file: Path,
    report: Callable[[TableIssue], None],
    *,
    replaces: bool,
) -> Loaded:
    """Load a CSV file in one transaction; ``report`` is called with what is wrong with lines.

    With ``replaces`` the rows that are not in the file are deleted; if a line is wrong, nothing
    is changed. Raises ``TableError`` for a file that cannot be read, and what the database raises.
    """
    async with writing(settings) as connection:
        loader = Loader(connection, kind, replaces=replaces)
        try:
            with file.open(encoding="utf-8-sig", newline="") as stream:
                async for issue in loader.load(stream_table(stream, kind.model, file.name)):
                    report(issue)
        except UnicodeDecodeError:
            text = f"{file} is not UTF-8; save the file as CSV UTF-8"
            raise TableError([TableIssue(file.name, 0, text)]) from None
        deleted = 0
        if replaces and not loader.left_out:
            deleted = await loader.delete_others()
        if not (replaces and loader.left_out):
            await connection.commit()
        return Loaded(loader.loaded, loader.left_out, deleted)


class Loader:
    """Loads one file in the transaction of a connection: new rows are added, others updated.

    ``replaces`` is true if rows that are not in the file are deleted: their aliases are free.
    """

    def __init__(self, connection: AsyncConnection, kind: Kind, *, replaces: bool) -> None:
        self.loaded = 0
        self.left_out = 0
        self._connection = connection
        self._kind = kind
        self._keys = Table(
            "pexpolicy_loaded",
            MetaData(),
            Column("key", String(MAX), primary_key=True),
            prefixes=["TEMPORARY"],
        )
        """The keys of the file so far; in the database, as there may be millions."""
        self._aliases = None
        if kind.table is ROOMS:
            self._aliases = RoomAliases(connection, self._keys.c.key, replaces=replaces)
        self._upsert = _upsert(connection, kind)

    async def load(self, lines: Iterator[Line]) -> AsyncIterator[TableIssue]:
        """Load the lines, and yield what is wrong with those that are left out."""
        await self._connection.run_sync(self._keys.create)
        while batch := list(islice(lines, BATCH)):
            for issue in await self._batch(batch):
                yield issue

    async def delete_others(self) -> int:
        """Delete the rows that are not in the file; return their number."""
        key = self._kind.table.c[self._kind.key]
        found = exists(select(self._keys.c.key).where(self._keys.c.key == key))
        done = await self._connection.execute(delete(self._kind.table).where(~found))
        return done.rowcount

    async def _batch(self, batch: Iterable[Line]) -> list[TableIssue]:
        issues: list[TableIssue] = []
        rows: list[tuple[Row[TableRow], Record, str]] = []
        for line in batch:
            if isinstance(line, TableIssue):
                issues.append(line)
                continue
            record = line.values.model_dump()
            odd = any(isinstance(value, str) and "\0" in value for value in record.values())
            aliases = record.pop("aliases", "")
            texts = list(self._kind.check(record))
            if odd:
                texts.append("holds a character that no database can store")
            issues += map(line.fault, texts)
            if not texts:
                rows.append((line, record, aliases))
        taken = await self._known(record[self._kind.key] for _, record, _ in rows)
        if self._aliases is not None:
            await self._aliases.prepare(aliases for _, _, aliases in rows)
        records: list[Record] = []
        for line, record, aliases in rows:
            key = record[self._kind.key]
            texts = [f"the file has {brief(key)} already"] if key in taken else []
            if self._aliases is not None:
                texts += self._aliases.claim(key, aliases, may_store=not texts)
            issues += map(line.fault, texts)
            if not texts:
                taken.add(key)
                records.append(record)
        if records:
            await self._store(records)
        self.left_out += len({issue.line for issue in issues})
        return issues

    async def _known(self, keys: Iterable[str]) -> set[str]:
        query = select(self._keys.c.key).where(self._keys.c.key.in_(list(keys)))
        return set((await self._connection.execute(query)).scalars())

    async def _store(self, records: list[Record]) -> None:
        keys = [{"key": record[self._kind.key]} for record in records]
        await self._connection.execute(insert(self._keys), keys)
        await self._connection.execute(self._upsert, records)
        if self._aliases is not None:
            await self._aliases.store()
        self.loaded += len(records)


def _upsert(connection: AsyncConnection, kind: Kind) -> Any:
    """Return the statement that adds a row, or updates the one with its key."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(kind.table)
    others = [column.name for column in kind.table.columns if column.name != kind.key]
    changed = {name: statement.excluded[name] for name in others}
    return statement.on_conflict_do_update(index_elements=[kind.key], set_=changed)
