"""Leases, counters and small stores that workers, and over PostgreSQL servers, share."""

# ruff: noqa: S608 - the statements are made of constants

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar, get_origin

import msgspec
from pydantic import BaseModel

from pexpolicy.background.schedule import Declared, check_seconds, declare
from pexpolicy.background.shared_state import (
    EXPIRES,
    FROM,
    PLACE,
    PRESENT,
    Rows,
    SetupError,
    SharedState,
    SharedUnavailableError,
    SqliteState,
    Statement,
)
from pexpolicy.config.secrets import revealed
from pexpolicy.config.settings import Settings
from pexpolicy.errors import Log
from pexpolicy.models.context import HOOK_CONTEXT

M = TypeVar("M")

FILE_NAME = "shared.sqlite"
"""In the state folder."""
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


class SharedItem(Declared):
    """What a plugin declares in its constructor, to share it with other workers and servers.

    Its names are prefixed by the name of the plugin. Without a server it is kept in memory, as in
    tests. In a dry run, and where ``request.dry_run``, what writes answers as if it had written.

    Each method raises ``SharedUnavailableError`` once the time limit of ``[shared]`` has passed,
    or at once while the engine fails; the change may then have been made or not.
    """

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a name has letters, digits and _.- only, up to 64: {name!r}")
        self.name = self.prefixed = name
        self.timeout: float | None = None
        """Seconds for an operation in the background; ``None`` for those of ``[shared]``."""
        self._state: SharedState | None = None
        declare(self)

    def bind(self, plugin: str, state: SharedState) -> None:
        """Keep it in a state, under the name of the plugin."""
        self.prefixed = f"{plugin}/{type(self).__name__}/{self.name}"
        self._state, self.is_open = state, True

    @property
    def state(self) -> SharedState:
        """The state that it is kept in."""
        if self._state is None:
            self._state, self.is_open = SqliteState(), True
        return self._state

    @property
    def is_dry(self) -> bool:
        """True where nothing may be written."""
        _, request = HOOK_CONTEXT.get()
        return self.state.is_dry or (request is not None and request.dry_run)

    async def _run(self, *statements: Statement, **options: Any) -> list[Rows]:
        return await self.state.run(*statements, timeout=self.timeout, **options)

    async def _rows(self, sql: str, *arguments: Any) -> Rows:
        return (await self._run((sql, (self.prefixed, *arguments))))[0]


def storable(key: str) -> str:
    """Return the key as it is stored: callers choose some, and no engine may refuse one."""
    key = _UNSTORABLE.sub("\ufffd", key)
    if len(key) > MAX_KEY:
        digest = hashlib.sha256(key.encode()).hexdigest()
        key = key[: MAX_KEY - len(digest)] + digest
    return key


def _ttl(given: float | None, default: float) -> float:
    return float(min(default if given is None else given, MAX_TTL_S))


class Leases(SharedItem):
    """Places that holders keep for ``ttl`` seconds, such as the calls of a tenant.

    Declare it in the constructor of a plugin. What was not renewed or released expires::

        self._calls = Leases("calls", ttl=30)
        ...
        if not await self._calls.acquire("acme", holder=call, most=60):
            return Reject(reason="acme: 60 of 60")
    """

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
        sql = PLACE if self.is_dry else self.state.acquire
        return bool(
            await self._rows(sql, storable(key), storable(holder), _ttl(ttl, self._ttl), most)
        )

    async def release(self, key: str, holder: str) -> None:
        """Give back the place of ``holder``; without effect if it has none. Atomic."""
        if not self.is_dry:
            await self._rows(_REMOVE, storable(key), storable(holder))

    async def change(
        self,
        given: Iterable[tuple[str, str]],
        released: Iterable[tuple[str, str]] = (),
        *,
        ttl: float | None = None,
    ) -> None:
        """Give and release many places of many keys in one transaction: pairs of key and holder.

        A place is given in any case, even if more than ``most`` have one. Nothing sees a part of
        it, so that a holder can be replaced by another.
        """
        name, seconds = self.prefixed, _ttl(ttl, self._ttl)
        new = sorted((name, storable(key), storable(holder)) for key, holder in given)
        gone = sorted((name, storable(key), storable(holder)) for key, holder in released)
        acquired = [(*one, seconds, None) for one in new]
        # A place is given first, as that locks its key: two transactions cannot wait in a circle.
        made = [one for one in ((self.state.acquire, acquired), (_REMOVE, gone)) if one[1]]
        if made and not self.is_dry:
            await self._run(*made)

    async def count(self, key: str) -> int:
        """Return the number of holders of ``key``."""
        return int((await self._rows(f"SELECT count(*) {PRESENT}", storable(key)))[0][0])

    async def holders(self, key: str) -> list[str]:
        """Return the holders of ``key`` in their order."""
        rows = await self._rows(f"SELECT part {PRESENT} ORDER BY part", storable(key))
        return [part for (part,) in rows]

    async def counts(self) -> dict[str, int]:
        """Return the number of holders of each key that has any."""
        return dict(await self._rows(f"SELECT key, count(*) {FROM} GROUP BY key ORDER BY key"))


_REMOVE = "DELETE FROM pexpolicy_shared WHERE name = $1 AND key = $2 AND part = $3"


class Counters(SharedItem):
    """Numbers that are counted over the last ``window`` seconds, such as attempts.

    Each addition counts for ``window`` seconds, and up to a tenth longer.
    """

    def __init__(self, name: str, window: float) -> None:
        check_seconds(window=window)
        self._window = window
        super().__init__(name)

    async def add(self, key: str, amount: int = 1) -> int:
        """Add to the number of ``key``, and return it. Atomic: no addition is lost.

        Of two at the same time, at least one returns the sum of both.
        """
        name, key, slot = self.prefixed, storable(key), self._window / SLOTS
        if self.is_dry:
            return await self.count(key) + amount
        _, total = await self._run(
            (_ADD, (name, key, slot, self._window + slot, amount)), (_TOTAL, (name, key))
        )
        return int(total[0][0])

    async def count(self, key: str) -> int:
        """Return the number of ``key``."""
        return int((await self._rows(_TOTAL, storable(key)))[0][0])


_ADD = (
    "INSERT INTO pexpolicy_shared (name, key, part, expires, amount) VALUES ($1, $2,"
    f" CAST(CAST($now / CAST($3 AS double precision) AS bigint) AS text), {EXPIRES},"
    " CAST($5 AS bigint)) ON CONFLICT (name, key, part)"
    " DO UPDATE SET amount = pexpolicy_shared.amount + excluded.amount"
)
_TOTAL = f"SELECT coalesce(sum(amount), 0) {PRESENT}"


class Store(SharedItem, Generic[M]):
    """Small values by key, such as one-time PINs. ``model`` is a msgspec or pydantic class.

    An entry is kept for the ``ttl`` seconds of the call, else for those of the store, else for a
    year. Values are kept as JSON.
    """

    def __init__(self, name: str, model: type[M], ttl: float | None = None) -> None:
        self._ttl = _ttl(ttl, MAX_TTL_S)
        check_seconds(ttl=self._ttl)
        self._encode: Callable[[M], str] = lambda value: msgspec.json.encode(value).decode()
        self._decode: Callable[[str], M]
        if get_origin(model) is None and issubclass(model, BaseModel):
            self._encode = lambda value: value.model_dump_json()  # type: ignore[attr-defined]
            self._decode = model.model_validate_json
        else:
            self._decode = msgspec.json.Decoder(model).decode
        super().__init__(name)

    async def get(self, key: str) -> M | None:
        """Return the value of ``key``, or ``None``."""
        found = await self._text(storable(key))
        return None if found is None else self._decode(found)

    async def put(self, key: str, value: M, ttl: float | None = None) -> None:
        """Set the value of ``key``; it can be taken again. Atomic; of two, the last one stays."""
        await self.put_all({key: value}, ttl)

    async def delete(self, key: str) -> None:
        """Remove the entry of ``key``. Atomic."""
        await self.put_all({key: None})

    async def put_all(self, changes: Mapping[str, M | None], ttl: float | None = None) -> None:
        """Set the values of several keys in one transaction: all or none. ``None`` deletes."""
        if self.is_dry or not changes:
            return
        seconds, name = _ttl(ttl, self._ttl), self.prefixed
        items = sorted((storable(key), value) for key, value in changes.items())
        put = [(name, key, self._encode(v), seconds) for key, v in items if v is not None]
        gone = [(name, key, "") for key, value in items if value is None]
        await self._run(*((sql, rows) for sql, rows in ((_PUT, put), (_REMOVE, gone)) if rows))

    async def take(self, key: str, by: str) -> M | None:
        """Return the value of ``key`` to the first one that takes it, and to others ``None``.

        Atomic: exactly one ``by`` gets it, and the same ``by`` gets it again, as Infinity asks
        several times for one call. ``get`` and ``items`` still have it until it expires.
        """
        sql = f"SELECT value {_UNTAKEN}" if self.is_dry else _TAKE
        rows = await self._rows(sql, storable(key), storable(by))
        return self._decode(rows[0][0]) if rows else None

    async def update(
        self, key: str, change: Callable[[M | None], M | None], ttl: float | None = None
    ) -> M | None:
        """Set the value to what ``change`` makes of the present one; ``None`` deletes. Return it.

        No other change gets lost: if one came in between, ``change`` is called again with the new
        value, so it must have no effect of its own. Raises ``SharedUnavailableError`` after
        ``MAX_ATTEMPTS``.
        """
        key, seconds = storable(key), _ttl(ttl, self._ttl)
        for attempt in range(MAX_ATTEMPTS):
            before = await self._text(key)
            value = change(None if before is None else self._decode(before))
            if self.is_dry or (value is None and before is None):
                return value
            if value is None:
                rows = await self._rows(f"{_REMOVE} AND value = $4 RETURNING 1", key, "", before)
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
        rows = await self._rows(f"SELECT value {PRESENT}", key)
        return rows[0][0] if rows else None


_PUT = (
    "INSERT INTO pexpolicy_shared (name, key, part, value, expires)"
    f" VALUES ($1, $2, '', $3, {EXPIRES}) ON CONFLICT (name, key, part)"
    " DO UPDATE SET value = excluded.value, taken_by = NULL, expires = excluded.expires"
)
_INSERT = f"{_PUT} WHERE pexpolicy_shared.expires <= $now RETURNING 1"
_WHERE = PRESENT.removeprefix("FROM pexpolicy_shared ")
_SWAP = (
    f"UPDATE pexpolicy_shared SET value = $3, expires = {EXPIRES} {_WHERE}"
    " AND value = $5 RETURNING 1"
)
_UNTAKEN = f"{PRESENT} AND (taken_by IS NULL OR taken_by = $3)"
_TAKE = (
    f"UPDATE pexpolicy_shared SET taken_by = $3 {_WHERE}"
    " AND (taken_by IS NULL OR taken_by = $3) RETURNING value"
)
_ITEMS = f"SELECT key, value {FROM} AND key >= $2 AND key < $3 AND key > $4 ORDER BY key LIMIT $5"


class SharedTables(SharedItem):
    """Tables of a plugin of this repository, in the engine of the leases and stores.

    ``create`` are statements that create what does not exist; they run before the first use. Table
    names begin with ``pexpolicy_`` and the name of the plugin. ``shared_state`` has the dialect.
    Its rows are deleted by the plugin.
    """

    def __init__(self, name: str, create: Iterable[str], timeout: float | None = None) -> None:
        self._create = tuple(create)
        super().__init__(name)
        self.timeout = timeout

    async def read(self, sql: str, *arguments: Any) -> Rows:
        """Return the rows of a query, which changes nothing."""
        if not await self.state.create(self._create):
            return []
        return (await self._run((sql, arguments)))[0]

    async def write(self, *statements: Statement, locks: Iterable[str] = ()) -> list[Rows]:
        """Run statements in one transaction: all or none. Return the rows of each.

        A statement is SQL and a tuple of arguments, or a list of tuples for many rows at once. Of
        two transactions with the same lock one runs after the other. In a dry run nothing runs.
        """
        if self.is_dry:
            return [[] for _ in statements]
        await self.state.create(self._create)
        return await self._run(*statements, locks=[f"{self.prefixed}\n{lock}" for lock in locks])


def shared_state(settings: Settings, log: Log | None = None, *, is_dry: bool) -> SharedState:
    """Return the state of ``[shared]``, not opened; one that ``is_dry`` is only read.

    Raises ``SetupError``.
    """
    table, path = settings.shared, settings.state_dir / FILE_NAME
    if table.url is None:
        return SqliteState(path, table.timeout, log=log, is_dry=is_dry)
    try:
        from pexpolicy.background.shared_postgresql import PostgresqlState  # noqa: PLC0415
    except ImportError as error:
        raise SetupError(f"{error}: pip install 'pexpolicy-sources[postgresql]'") from None
    password = revealed(settings.shared_password)
    return PostgresqlState(table.url, password, table.timeout, log=log, is_dry=is_dry)
