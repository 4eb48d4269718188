"""Leases, counters and small stores that workers, and over PostgreSQL servers, share."""

# ruff: noqa: S608 - the statements are made of constants

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import GenericAlias
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
from pydantic import BaseModel

from pexpolicy.background.schedule import check_seconds, declare
from pexpolicy.background.shared_state import (
    FILE_NAME,
    Engine,
    Rows,
    SetupError,
    SharedState,
    SharedUnavailableError,
    SqliteEngine,
    Statement,
)
from pexpolicy.config.outgoing import revealed
from pexpolicy.config.settings import Settings
from pexpolicy.errors import Log
from pexpolicy.models.context import HOOK_CONTEXT

M = TypeVar("M")

MAX_TTL_S = 366 * 86_400.0
"""How long an entry is kept that has no shorter time: every entry expires."""
MAX_KEY = 300
"""Characters of a key; a longer one is shortened, and ends in its hash."""
SLOTS = 10
"""Parts of the window of a counter."""
MAX_ATTEMPTS = 200
"""Attempts of an update whose entry others change at the same time."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class SharedItem:
    """What a plugin declares in its constructor, to share it with other workers and servers.

    Its names are prefixed by the name of the plugin. Without a server it is kept in memory, as in
    tests. In a dry run, and where ``request.dry_run``, what writes answers as if it had written.

    Each method raises ``SharedUnavailableError`` once the time limit of ``[shared]`` has passed,
    or at once while the engine fails; the change may then have been made or not.
    """

    declared_as: ClassVar[str]
    """How a plugin makes it, such as ``Leases(...)``."""

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a name has letters, digits and _.- only, up to 64: {name!r}")
        self.name = name
        self.prefixed = name
        """The name with that of the plugin."""
        self._state: SharedState | None = None
        declare(self)

    @property
    def is_open(self) -> bool:
        """True once it belongs to the state of a server or of a command."""
        return self._state is not None

    def bind(self, plugin: str, state: SharedState) -> None:
        """Keep it in a state, under the name of the plugin."""
        self.prefixed = f"{plugin}/{self.name}"
        self._state = state

    @property
    def state(self) -> SharedState:
        """The state that it is kept in."""
        if self._state is None:
            self._state = SharedState(SqliteEngine())
        return self._state

    @property
    def is_dry(self) -> bool:
        """True where nothing may be written."""
        _, request = HOOK_CONTEXT.get()
        return self.state.is_dry or (request is not None and request.dry_run)

    async def _rows(self, sql: str, *arguments: Any, lock: str = "") -> Rows:
        key = f"{self.prefixed}\n{lock}" if lock else ""
        return (await self.state.run((sql, (self.prefixed, *arguments)), lock=key))[0]


def storable(key: str) -> str:
    """Return the key as it is stored: callers choose some, and no engine may refuse one."""
    key = _UNSTORABLE.sub("\ufffd", key)
    if len(key) > MAX_KEY:
        digest = hashlib.sha256(key.encode()).hexdigest()
        key = key[: MAX_KEY - len(digest)] + digest
    return key


class Leases(SharedItem):
    """Places that holders keep for ``ttl`` seconds, such as the calls of a tenant.

    Declare it in the constructor of a plugin. What was not renewed or released expires::

        self._calls = Leases("calls", ttl=30)
        ...
        if not await self._calls.acquire("acme", holder=call, most=60):
            return Reject(reason="acme: 60 of 60")
    """

    declared_as = "Leases(...)"

    def __init__(self, name: str, ttl: float) -> None:
        check_seconds(ttl=ttl)
        self._ttl = ttl
        super().__init__(name)

    async def acquire(
        self, key: str, holder: str, most: int | None = None, *, ttl: float | None = None
    ) -> bool:
        """Give ``holder`` a place of ``key``, if fewer than ``most`` holders have one.

        Atomic over all workers and servers: ``most`` is never exceeded by it. Idempotent: a holder
        that has a place keeps it, for at least ``ttl`` seconds from now, also above ``most``. In a
        dry run it returns whether there would be a place.
        """
        key, holder, seconds = storable(key), storable(holder), _ttl(ttl, self._ttl)
        if self.is_dry:
            return bool(await self._rows(f"SELECT 1 WHERE {_HAS_PLACE}", key, holder, most))
        return bool(await self._rows(_ACQUIRE, key, holder, most, seconds, lock=key))

    async def release(self, key: str, holder: str) -> None:
        """Give back the place of ``holder``; without effect if it has none. Atomic."""
        if not self.is_dry:
            await self._rows(_RELEASE, storable(key), storable(holder))

    async def replace(self, key: str, old: str, new: str, *, ttl: float | None = None) -> None:
        """Give the place of ``old`` to ``new``, in one transaction.

        ``new`` has a place afterwards in any case, even if ``old`` had none and more than ``most``
        have one. Nothing sees both of them or neither.
        """
        if self.is_dry:
            return
        key, seconds = storable(key), _ttl(ttl, self._ttl)
        await self.state.run(
            (_RELEASE, (self.prefixed, key, storable(old))),
            (_ACQUIRE, (self.prefixed, key, storable(new), None, seconds)),
            lock=f"{self.prefixed}\n{key}",
        )

    async def change(
        self,
        given: Iterable[tuple[str, str]],
        released: Iterable[tuple[str, str]] = (),
        *,
        ttl: float | None = None,
    ) -> None:
        """Give and release many places of many keys in one transaction: pairs of key and holder.

        As with ``replace``, a place is given in any case.
        """
        name, seconds = self.prefixed, _ttl(ttl, self._ttl)
        gone = sorted((name, storable(key), storable(holder)) for key, holder in released)
        new = sorted((name, storable(key), storable(holder)) for key, holder in given)
        acquired = [(*one, None, seconds) for one in new]
        statements: list[Statement] = [(_RELEASE, gone), (_ACQUIRE, acquired)]
        if not self.is_dry and (gone or new):
            made = (one for one in statements if one[1])
            await self.state.run(*made, lock=f"{self.prefixed}\n")

    async def count(self, key: str) -> int:
        """Return the number of holders of ``key``."""
        where = "WHERE name = $1 AND key = $2 AND expires > $now"
        rows = await self._rows(f"SELECT count(*) FROM pexpolicy_leases {where}", storable(key))
        return int(rows[0][0])

    async def holders(self, key: str) -> list[str]:
        """Return the holders of ``key`` in their order."""
        where = "WHERE name = $1 AND key = $2 AND expires > $now ORDER BY holder"
        rows = await self._rows(f"SELECT holder FROM pexpolicy_leases {where}", storable(key))
        return [row[0] for row in rows]

    async def counts(self) -> dict[str, int]:
        """Return the number of holders of each key that has any."""
        where = "WHERE name = $1 AND expires > $now GROUP BY key ORDER BY key"
        rows = await self._rows(f"SELECT key, count(*) FROM pexpolicy_leases {where}")
        return dict(rows)


_HELD = "SELECT count(*) FROM pexpolicy_leases WHERE name = $1 AND key = $2 AND expires > $now"
_HAS_PLACE = (
    f"CAST($4 AS bigint) IS NULL OR ({_HELD}) < CAST($4 AS bigint)"
    f" OR ({_HELD} AND holder = CAST($3 AS text)) > 0"
)
_ACQUIRE = (
    "INSERT INTO pexpolicy_leases (name, key, holder, expires)"
    " SELECT CAST($1 AS text), CAST($2 AS text), CAST($3 AS text),"
    f" $now + CAST($5 AS double precision) WHERE {_HAS_PLACE}"
    " ON CONFLICT (name, key, holder) DO UPDATE SET expires ="
    " CASE WHEN excluded.expires > pexpolicy_leases.expires"
    " THEN excluded.expires ELSE pexpolicy_leases.expires END RETURNING 1"
)
_RELEASE = "DELETE FROM pexpolicy_leases WHERE name = $1 AND key = $2 AND holder = $3"


class Counters(SharedItem):
    """Numbers that are counted over the last ``window`` seconds, such as attempts.

    Each addition counts for ``window`` seconds, and up to a tenth longer.
    """

    declared_as = "Counters(...)"

    def __init__(self, name: str, window: float) -> None:
        check_seconds(window=window)
        self._window = window
        super().__init__(name)

    async def add(self, key: str, amount: int = 1) -> int:
        """Add to the number of ``key``, and return it. Atomic: no addition is lost.

        Two that add at the same time may both see the sum of both.
        """
        key = storable(key)
        if self.is_dry:
            return await self.count(key) + amount
        added, total = await self.state.run(
            (_ADD, (self.prefixed, key, self._window / SLOTS, amount, self._window)),
            (_TOTAL, (self.prefixed, key)),
        )
        assert added
        return int(total[0][0])

    async def count(self, key: str) -> int:
        """Return the number of ``key``."""
        return int((await self._rows(_TOTAL, storable(key)))[0][0])


_ADD = (
    "INSERT INTO pexpolicy_counters (name, key, slot, amount, expires)"
    " SELECT CAST($1 AS text), CAST($2 AS text),"
    " CAST($now / CAST($3 AS double precision) AS bigint), CAST($4 AS bigint),"
    " $now + CAST($3 AS double precision) + CAST($5 AS double precision) WHERE 1 = 1"
    " ON CONFLICT (name, key, slot)"
    " DO UPDATE SET amount = pexpolicy_counters.amount + excluded.amount RETURNING 1"
)
_TOTAL = (
    "SELECT coalesce(sum(amount), 0) FROM pexpolicy_counters"
    " WHERE name = $1 AND key = $2 AND expires > $now"
)


class Store(SharedItem, Generic[M]):
    """Small values by key, such as one-time PINs. ``model`` is a msgspec or pydantic class.

    An entry is kept for the ``ttl`` seconds of the call, else for those of the store, else for a
    year. Values are kept as JSON.
    """

    declared_as = "Store(...)"

    def __init__(self, name: str, model: type[M], ttl: float | None = None) -> None:
        check_seconds(ttl=_ttl(ttl, MAX_TTL_S))
        self._ttl = ttl
        self._encode: Callable[[M], str]
        self._decode: Callable[[str], M]
        is_class = not isinstance(model, GenericAlias)  # such as dict[str, int]
        if is_class and issubclass(model, BaseModel):
            self._encode = lambda value: value.model_dump_json()  # type: ignore[attr-defined]
            self._decode = model.model_validate_json
        else:
            self._encode = lambda value: msgspec.json.encode(value).decode()
            self._decode = msgspec.json.Decoder(model).decode
        super().__init__(name)

    async def get(self, key: str) -> M | None:
        """Return the value of ``key``, or ``None``."""
        found = await self._text(storable(key))
        return None if found is None else self._decode(found)

    async def put(self, key: str, value: M, ttl: float | None = None) -> None:
        """Set the value of ``key``; nobody has taken it. Atomic; of two, the last one stays."""
        await self.put_all({key: value}, ttl)

    async def delete(self, key: str) -> None:
        """Remove the entry of ``key``. Atomic."""
        await self.put_all({key: None})

    async def put_all(self, changes: Mapping[str, M | None], ttl: float | None = None) -> None:
        """Set the values of several keys in one transaction: all or none. ``None`` deletes."""
        if self.is_dry or not changes:
            return
        seconds, name = _ttl(ttl, self._ttl or MAX_TTL_S), self.prefixed
        items = sorted((storable(key), value) for key, value in changes.items())
        put = [(name, key, self._encode(v), seconds) for key, v in items if v is not None]
        gone = [(name, key) for key, value in items if value is None]
        await self.state.run(*((sql, rows) for sql, rows in ((_PUT, put), (_DELETE, gone)) if rows))

    async def take(self, key: str, by: str) -> M | None:
        """Return the value of ``key`` to the first one that takes it, and to others ``None``.

        Atomic: exactly one ``by`` gets it, and the same ``by`` gets it again, as Infinity asks
        several times for one call. ``get`` and ``items`` still have it until it expires.
        """
        if self.is_dry:
            where = f"{_PRESENT} AND (taken_by IS NULL OR taken_by = $3)"
            sql = f"SELECT value FROM pexpolicy_entries {where}"
            rows = await self._rows(sql, storable(key), storable(by))
        else:
            rows = await self._rows(_TAKE, storable(key), storable(by))
        return self._decode(rows[0][0]) if rows else None

    async def update(
        self, key: str, change: Callable[[M | None], M | None], ttl: float | None = None
    ) -> M | None:
        """Set the value to what ``change`` makes of the present one; ``None`` deletes. Return it.

        No other change gets lost: if one came in between, ``change`` is called again with the new
        value, so it must have no effect of its own. Raises ``SharedUnavailableError`` after
        ``MAX_ATTEMPTS``.
        """
        key, seconds = storable(key), _ttl(ttl, self._ttl or MAX_TTL_S)
        for attempt in range(MAX_ATTEMPTS):
            before = await self._text(key)
            value = change(None if before is None else self._decode(before))
            if self.is_dry or (value is None and before is None):
                return value
            if value is None:
                rows = await self._rows(f"{_DELETE} AND value = $3 RETURNING 1", key, before)
            elif before is None:
                rows = await self._rows(_INSERT, key, self._encode(value), seconds)
            else:
                rows = await self._rows(_SWAP, key, self._encode(value), seconds, before)
            if rows:
                return value
            await asyncio.sleep(random.random() * 0.001 * min(attempt, 20))  # noqa: S311
        raise SharedUnavailableError(f"{self.prefixed}: others change {key!r} all the time")

    async def items(
        self, prefix: str = "", after: str = "", limit: int = 500
    ) -> list[tuple[str, M]]:
        """Return up to ``limit`` keys with their values, ordered by key.

        Those that begin with ``prefix``, and come after ``after``.
        """
        rows = await self._rows(_ITEMS, prefix, prefix + "\U0010ffff", after, limit)
        return [(key, self._decode(value)) for key, value in rows]

    async def _text(self, key: str) -> str | None:
        rows = await self._rows(f"SELECT value FROM pexpolicy_entries {_PRESENT}", key)
        return rows[0][0] if rows else None


_PRESENT = "WHERE name = $1 AND key = $2 AND expires > $now"
_NEW = (
    "INSERT INTO pexpolicy_entries (name, key, value, taken_by, expires)"
    " VALUES ($1, $2, $3, NULL, $now + CAST($4 AS double precision))"
    " ON CONFLICT (name, key) DO UPDATE SET"
    " value = excluded.value, taken_by = NULL, expires = excluded.expires"
)
_PUT = _NEW
_INSERT = f"{_NEW} WHERE pexpolicy_entries.expires <= $now RETURNING 1"
_SWAP = (
    "UPDATE pexpolicy_entries SET value = $3, expires = $now + CAST($4 AS double precision)"
    f" {_PRESENT} AND value = $5 RETURNING 1"
)
_DELETE = "DELETE FROM pexpolicy_entries WHERE name = $1 AND key = $2"
_TAKE = (
    f"UPDATE pexpolicy_entries SET taken_by = $3 {_PRESENT}"
    " AND (taken_by IS NULL OR taken_by = $3) RETURNING value"
)
_ITEMS = (
    "SELECT key, value FROM pexpolicy_entries WHERE name = $1 AND key >= $2 AND key < $3"
    " AND key > $4 AND expires > $now ORDER BY key LIMIT $5"
)


class SharedTables(SharedItem):
    """Tables of a plugin of this repository, in the engine of the leases and stores.

    ``create`` are statements that create what does not exist; they run before the first use. Table
    names begin with ``pexpolicy_`` and the name of the plugin. ``shared_state`` has the dialect.
    ``timeout`` in seconds, by default that of ``[shared]``. Its rows are deleted by the plugin.
    """

    declared_as = "SharedTables(...)"

    def __init__(self, name: str, create: Sequence[str], timeout: float | None = None) -> None:
        self._create = tuple(create)
        self._timeout = timeout
        super().__init__(name)

    async def read(self, sql: str, *arguments: Any) -> Rows:
        """Return the rows of a query, which changes nothing."""
        if not await self.state.create(self._create):
            return []
        return (await self.state.run((sql, arguments), timeout=self._timeout))[0]

    async def write(self, *statements: Statement, lock: str = "") -> list[Rows]:
        """Run statements in one transaction: all or none. Return the rows of each.

        A statement is SQL and a tuple of arguments, or a list of tuples for many rows at once. Of
        two transactions with the same ``lock`` one runs after the other, so that what the first
        statement reads is true for the second one. In a dry run nothing runs, and there are no
        rows.
        """
        if self.is_dry:
            return [[] for _ in statements]
        await self.state.create(self._create)
        lock = f"{self.prefixed}\n{lock}" if lock else ""
        return await self.state.run(*statements, lock=lock, timeout=self._timeout)


class JobTurn:
    """Gives a job once per fleet to one process: a lease that it renews at each run."""

    def __init__(self, state: SharedState, plugin: str, job: str, ttl: float) -> None:
        self._key, self._state = f"{plugin}/{job}", state
        self._leases = Leases("jobs", ttl)
        self._leases.bind("", state)

    async def begin(self) -> bool:
        """Return whether this process runs it now."""
        return await self._leases.acquire(self._key, self._state.process, 1)

    async def end(self) -> None:
        """Let another process run it at once."""
        with suppress(SharedUnavailableError):
            await self._leases.release(self._key, self._state.process)


def shared_state(settings: Settings, log: Log | None = None, *, is_dry: bool) -> SharedState:
    """Return the state of ``[shared]``, not opened; one that ``is_dry`` is only read."""
    table = settings.shared
    engine: Engine
    if table.url is not None:
        try:
            from pexpolicy.background.shared_postgresql import PostgresqlEngine  # noqa: PLC0415
        except ImportError as error:
            raise SetupError(f"{error}: pip install 'pexpolicy-sources[postgresql]'") from None
        engine = PostgresqlEngine(table.url, revealed(settings.shared_password), reads_only=is_dry)
    else:
        path = settings.state_dir / FILE_NAME
        engine = SqliteEngine(path, table.timeout, reads_only=is_dry)
    return SharedState(engine, table.timeout, log=log, is_dry=is_dry)


SHARED_KINDS: tuple[type[SharedItem], ...] = (Leases, Counters, Store, SharedTables)


def _ttl(given: float | None, default: float) -> float:
    return float(min(default if given is None else given, MAX_TTL_S))
