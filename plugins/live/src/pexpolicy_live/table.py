"""The table of what is known, in the engine of ``[shared]``; workers read what has changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from pexpolicy import SharedUnavailableError
from pexpolicy.background.shared import SharedTables, storable
from pexpolicy.events import Event
from pexpolicy_live.participants import Key, Row, Stale, TenantOf, key_of, merged, seconds_kept

TIMEOUT_S = 2.0
"""For one operation; no call waits for it."""
PAGE = 100
"""Rows that are read at once."""
SLICE = 25
"""Events or rows between which calls are answered."""
MAX_ATTEMPTS = 5

NAME = "pexpolicy_live"
"""The table of the plugin ``live``; another plugin has one of another name."""
_COLUMNS = {
    "pexpolicy_live": "key $text PRIMARY KEY, value $text NOT NULL, changed bigint NOT NULL,"
    " expires double precision NOT NULL",
    "pexpolicy_live_head": "id bigint PRIMARY KEY, changed bigint NOT NULL, writer $text NOT NULL",
}
CREATE = (
    *(f"CREATE TABLE IF NOT EXISTS {name} ({columns})" for name, columns in _COLUMNS.items()),
    "CREATE INDEX IF NOT EXISTS pexpolicy_live_changed ON pexpolicy_live (changed)",
    "CREATE INDEX IF NOT EXISTS pexpolicy_live_expires ON pexpolicy_live (expires)",
    "INSERT INTO pexpolicy_live_head VALUES (1, 0, '') ON CONFLICT DO NOTHING",
)
_FOUND = (
    "SELECT h.changed, l.value FROM pexpolicy_live_head h LEFT JOIN pexpolicy_live l"
    " ON +l.expires > $now AND l.key IN ({}) WHERE h.id = 1"
)
_CHANGES = (
    "SELECT h.changed, l.changed, l.value, l.expires - $now FROM pexpolicy_live_head h"
    " LEFT JOIN pexpolicy_live l ON l.changed > CAST($1 AS bigint) AND +l.expires > $now"
    " WHERE h.id = 1 ORDER BY l.changed LIMIT CAST($2 AS bigint)"
)
_ADVANCE = (
    "UPDATE pexpolicy_live_head SET changed = changed + CAST($1 AS bigint),"
    " writer = CAST($2 AS text) WHERE id = 1 AND changed = CAST($3 AS bigint) RETURNING changed"
)
_PUT = (
    "INSERT INTO pexpolicy_live (key, value, changed, expires)"
    " SELECT CAST($1 AS text), CAST($2 AS text), CAST($3 AS bigint),"
    " $now + CAST($4 AS double precision) FROM pexpolicy_live_head"
    " WHERE id = 1 AND writer = CAST($5 AS text)"
    " ON CONFLICT (key) DO UPDATE SET"
    " value = excluded.value, changed = excluded.changed, expires = excluded.expires"
)


class LiveTable:
    """What is known, by key, in the table ``name``. Raises ``SharedUnavailableError``.

    ``put`` is called with each row that has changed, the monotonic time and the seconds from then
    on that it is kept; ``forget`` before, if it is another database.
    """

    def __init__(
        self,
        put: Callable[[Key, Row, float, float], Any],
        forget: Callable[[], Any],
        name: str = NAME,
    ) -> None:
        self._put, self._forget, self._name = put, forget, name
        self.shared = SharedTables("rows", map(self._named, CREATE), timeout=TIMEOUT_S)
        self._decoder = msgspec.json.Decoder(tuple[Key, Row])
        self._last = 0
        """The number of the last change that was read."""

    def _named(self, sql: str) -> str:
        return sql.replace(NAME, self._name)

    async def take(
        self, events: Sequence[Event], tenant_of: TenantOf, too_many: Callable[[str], str]
    ) -> bool:
        """Merge events into the table; return whether they are about anything that is kept.

        Unless ``too_many`` returns an empty text for a source, what is not known yet makes it stale
        for that reason.
        """
        keys = list(dict.fromkeys(filter(None, map(key_of, events))))
        for _ in range(MAX_ATTEMPTS if keys else 0):
            head, before = await self.found(keys)
            after = dict[Key, Row]()
            for number, event in enumerate(events, 1):
                if not number % SLICE:
                    await asyncio.sleep(0)
                if (key := key_of(event)) is None:
                    continue
                known = after.get(key, before.get(key))
                if known is None and (why := too_many(event.source)):
                    after["stale", event.source, ""] = Stale(why, event.received)
                else:
                    after[key] = merged(known, event, tenant_of)
            changed = {key: row for key, row in after.items() if row != before.get(key)}
            if not changed or await self.write(head, changed):
                return True
        if keys:
            raise SharedUnavailableError("other servers write all the time")
        return False

    async def follow(self) -> None:
        """Put each row that has changed."""
        is_more = True
        while is_more:
            after = self._last
            rows = await self.shared.read(self._named(_CHANGES), after, PAGE)
            head = rows[0][0] if rows else 0  # no server has made the table yet
            if head < after:
                self._last = 0
                self._forget()
                continue
            now, is_more = time.monotonic(), len(rows) == PAGE
            for count, (_, number, value, kept) in enumerate(rows, 1):
                if not count % SLICE:
                    await asyncio.sleep(0)
                if value:
                    key, row = self._decoder.decode(value)
                    self._put(key, row, now, kept)
                    self._last = number

    async def found(self, keys: Collection[Key]) -> tuple[int, dict[Key, Row]]:
        """Return the number of the last change, and the rows that there are."""
        names = ", ".join(f"${number}" for number in range(1, len(keys) + 1))
        sql = self._named(_FOUND).format(names)
        rows = await self.shared.read(sql, *map(_name_of, keys))
        return rows[0][0], dict(self._decoder.decode(row[1]) for row in rows if row[1])

    async def write(self, head: int, rows: Mapping[Key, Row]) -> bool:
        """Write rows; false, and without effect, if the last change is not ``head`` any more.

        They are put at once if all before was read, so that nothing reads them again.
        """
        writer = uuid4().hex
        values = [
            (_name_of(key), _text((key, row)), head + number, seconds_kept(row), writer)
            for number, (key, row) in enumerate(rows.items(), 1)
        ]
        advance = self._named(_ADVANCE), (len(values), writer, head)
        put = self._named(_PUT), values
        advanced, *_ = await self.shared.write(advance, put, locks=["write"])
        if advanced and head == self._last:
            self._last, now = head + len(rows), time.monotonic()
            for key, row in rows.items():
                self._put(key, row, now, seconds_kept(row))
        return bool(advanced)

    async def sweep(self) -> None:
        """Delete what has expired."""
        sql = self._named("DELETE FROM pexpolicy_live WHERE expires <= $now")
        # A write at the same time would lock the rows in another order.
        await self.shared.write((sql, ()), locks=["write"])


def _name_of(key: Key) -> str:
    return storable(_text(key))


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
