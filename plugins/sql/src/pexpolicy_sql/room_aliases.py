"""Aliases of the rooms that are loaded: each leads to one room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Column, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pexpolicy import Alias
from pexpolicy.text import brief
from pexpolicy_sql.tables import MAX, ROOM_ALIASES

CHUNK = 1000
"""Values in one statement."""


class RoomAliases:
    """Assigns the aliases of a batch of rooms; ``loaded`` has the names of the rooms so far."""

    def __init__(self, connection: AsyncConnection, loaded: Column[str], *, replaces: bool) -> None:
        self._connection = connection
        self._loaded = loaded
        self._replaces = replaces
        self._owners: dict[str, str] = {}
        """The rooms of the aliases of the batch."""
        self._owned: dict[str, list[str]] = {}
        self._claimed: dict[str, list[str]] = {}

    async def prepare(self, cells: Iterable[str]) -> None:
        """Begin a batch with the aliases in these cells."""
        aliases = dict.fromkeys(str(Alias(text)) for cell in cells for text in cell.split())
        self._owners, self._owned, self._claimed = {}, {}, {}
        rest = iter(aliases)
        table = ROOM_ALIASES.c
        while chunk := list(islice(rest, CHUNK)):
            query = select(table.alias, table.room).where(table.alias.in_(chunk))
            if self._replaces:
                # Other rooms are deleted afterwards.
                query = query.where(table.room.in_(select(self._loaded)))
            for alias, room in await self._connection.execute(query):
                self._owners[alias] = room
                self._owned.setdefault(room, []).append(alias)

    def claim(self, room: str, cell: str, *, may_store: bool) -> Sequence[str]:
        """Take aliases for a room; return what is wrong."""
        aliases = [str(alias) for alias in map(Alias, cell.split()) if alias.user]
        aliases = list(dict.fromkeys(aliases))
        wrong = [text for text in cell.split() if not Alias(text).user]
        texts = [f"aliases: {brief(text)} is not an alias" for text in wrong]
        texts += [f"aliases: {brief(a)} is too long" for a in aliases if len(a) > MAX]
        for alias in aliases:
            owner = self._owners.get(alias, room)
            if owner != room:
                texts.append(f"aliases: {brief(alias)} belongs to the room {brief(owner)}")
        if not aliases and not wrong:
            texts.append("aliases: a room needs an alias")
        if not texts and may_store:
            for alias in self._owned.pop(room, ()):
                del self._owners[alias]
            self._owners |= dict.fromkeys(aliases, room)
            self._claimed[room] = aliases
        return texts

    async def store(self) -> None:
        """Write the aliases of the rooms of the batch, instead of those that they had."""
        table = ROOM_ALIASES.c
        rest = iter(self._claimed)
        while rooms := list(islice(rest, CHUNK)):
            await self._connection.execute(delete(ROOM_ALIASES).where(table.room.in_(rooms)))
        records: list[dict[str, Any]] = [
            {"alias": alias, "room": room, "position": position}
            for room, aliases in self._claimed.items()
            for position, alias in enumerate(aliases)
        ]
        rest = iter(record["alias"] for record in records)
        while aliases := list(islice(rest, CHUNK)):
            await self._connection.execute(delete(ROOM_ALIASES).where(table.alias.in_(aliases)))
        await self._connection.execute(insert(ROOM_ALIASES), records)
