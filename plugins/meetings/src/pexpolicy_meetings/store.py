"""The meetings in the database of ``[shared]``: one transaction for each change."""

# ruff: noqa: S608 - the statements are made of constants

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from pexpolicy import SharedUnavailableError
from pexpolicy.background.shared import SharedTables
from pexpolicy.background.shared_state import Rows, Statement
from pexpolicy.models.alias import Alias
from pexpolicy.models.context import LiveValues
from pexpolicy_meetings.meeting import DAY_S, Fault, Invitation, Meeting, pointer, service_of
from pexpolicy_meetings.pins import LENGTH, Pins, made_pin
from pexpolicy_meetings.settings import TenantOf

R = TypeVar("R")

TIMEOUT_S = 2.0
"""For a change and what the API reads."""
KEY_S = 86_400.0
"""How long an Idempotency-Key is kept."""
MAX_ATTEMPTS = 20
INVITATION_DIGITS = 12
"""Random digits of the alias of an invitation, at least: it may stand for a PIN."""
SWEPT_AT_ONCE = 500
Place = tuple[float, str]
"""Start and id of the meeting after which a page of a list begins."""
FIRST = (-1.0, "")
_TIME = "double precision"
_COLUMNS = {
    **dict.fromkeys(("tenant", "id"), "text"),
    **dict.fromkeys(("opens", "closes", "starts", "ends", "ended", "expires"), _TIME),
    **dict.fromkeys(("version", "value", "series"), "text"),
    "cancelled": "bigint",
}
_TABLES = {
    "pexpolicy_meetings": ", ".join(
        f"{name} {'$text' if kind == 'text' else kind} NOT NULL" for name, kind in _COLUMNS.items()
    )
    + ", PRIMARY KEY (tenant, id)",
    "pexpolicy_meetings_aliases": "tenant $text, id $text, alias $text, name $text NOT NULL,"
    f" opens {_TIME} NOT NULL, closes {_TIME} NOT NULL, holds bigint NOT NULL,"
    " PRIMARY KEY (tenant, id, alias)",
    "pexpolicy_meetings_keys": "tenant $text, key $text, digest $text NOT NULL, id $text NOT NULL,"
    f" expires {_TIME} NOT NULL, PRIMARY KEY (tenant, key)",
}
_INDEXES = {
    "pexpolicy_meetings_start": "pexpolicy_meetings (tenant, starts, id)",
    "pexpolicy_meetings_expire": "pexpolicy_meetings (expires)",
    "pexpolicy_meetings_end": "pexpolicy_meetings (ended)",
    "pexpolicy_meetings_name": "pexpolicy_meetings_aliases (name, holds, opens)",
}
CREATE = (
    *(f"CREATE TABLE IF NOT EXISTS {name} ({columns})" for name, columns in _TABLES.items()),
    *(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}" for name, columns in _INDEXES.items()),
)
"""``name`` is the user part of an alias, which a meeting that ``holds`` has alone while it is open.
"""
_TAKEN = (
    "SELECT a.name FROM pexpolicy_meetings_aliases a WHERE a.holds = 1"
    " AND a.opens < CAST($4 AS double precision) AND a.closes > CAST($3 AS double precision)"
    " AND NOT (a.tenant = $1 AND a.id = $2) AND a.name IN ({})"
)
_VALUES = ", ".join(f"CAST(${n} AS {kind})" for n, kind in enumerate(_COLUMNS.values(), 1))
_PUT = (
    f"INSERT INTO pexpolicy_meetings ({', '.join(_COLUMNS)}) SELECT {_VALUES}"
    f" WHERE NOT EXISTS ({_TAKEN}) AND NOT EXISTS"
    " (SELECT 1 FROM pexpolicy_meetings_keys k WHERE k.tenant = $1"
    " AND k.key = CAST($14 AS text) AND k.expires > CAST($15 AS double precision))"
    " ON CONFLICT (tenant, id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in [*_COLUMNS][2:])
    + " WHERE pexpolicy_meetings.version = CAST($13 AS text) RETURNING 1"
)
_WRITTEN = "FROM pexpolicy_meetings WHERE tenant = $1 AND id = $2 AND version = $3"
_LEAVE = (
    "DELETE FROM pexpolicy_meetings_aliases WHERE tenant = $1 AND id = $2"
    f" AND EXISTS (SELECT 1 {_WRITTEN})"
)
_HOLD = (
    "INSERT INTO pexpolicy_meetings_aliases (tenant, id, alias, name, opens, closes, holds)"
    " SELECT tenant, id, CAST($4 AS text), CAST($5 AS text), opens, closes,"
    " CASE WHEN cancelled = 0 AND closes > opens THEN 1 ELSE 0 END"
    f" {_WRITTEN}"
)
_KEEP_KEY = (
    "INSERT INTO pexpolicy_meetings_keys (tenant, key, digest, id, expires)"
    " SELECT tenant, CAST($4 AS text), CAST($5 AS text), id, CAST($6 AS double precision)"
    f" {_WRITTEN} ON CONFLICT (tenant, key)"
    " DO UPDATE SET digest = excluded.digest, id = excluded.id, expires = excluded.expires"
)
_GET = "SELECT value, version FROM pexpolicy_meetings WHERE tenant = $1 AND id = $2"
_KEY = (
    "SELECT digest, id FROM pexpolicy_meetings_keys WHERE tenant = $1 AND key = $2 AND expires > $3"
)
_NEAR = (
    "SELECT * FROM (SELECT m.value, m.version FROM pexpolicy_meetings_aliases a"
    " JOIN pexpolicy_meetings m ON m.tenant = a.tenant AND m.id = a.id"
    " WHERE a.name = $1 AND (CAST($2 AS text) = '' OR a.alias IN ($1, $2)) AND a.holds = {}"
    " AND a.opens {} CAST($3 AS double precision) ORDER BY a.opens {} LIMIT {}) AS near"
)
_BY_ALIAS = " UNION ALL ".join(
    _NEAR.format(*one)
    for one in ((1, "<=", "DESC", 2), (1, ">", "ASC", 1), (0, "<=", "DESC", 1), (0, ">", "ASC", 1))
)
"""The meetings around a time: held ones do not overlap, cancelled ones may."""
_STATES: Mapping[str, str] = {
    "scheduled": "cancelled = 0 AND opens > $6 AND closes > $6",
    "open": "cancelled = 0 AND opens <= $6 AND closes > $6",
    "running": "cancelled = 0 AND opens <= $6 AND closes > $6",
    "ended": "cancelled = 0 AND closes <= $6",
    "cancelled": "cancelled = 1",
}
_LIST = (
    "SELECT value, version FROM pexpolicy_meetings WHERE tenant = $1"
    " AND ends > CAST($2 AS double precision) AND starts < CAST($3 AS double precision)"
    " AND (starts, id) > (CAST($4 AS double precision), CAST($5 AS text))"
    " AND (CAST($7 AS text) = '' OR series = $7)"
    " AND (CAST($6 AS double precision) IS NULL OR {}) ORDER BY starts, id LIMIT CAST($8 AS bigint)"
)
_CLOSED = (
    "SELECT value, version FROM pexpolicy_meetings WHERE ended > $1 AND ended <= $2"
    " ORDER BY ended DESC LIMIT 1000"
)
_SWEEP = (
    "DELETE FROM pexpolicy_meetings WHERE expires <= $1 AND (tenant, id) IN (SELECT tenant, id FROM"
    " pexpolicy_meetings WHERE expires <= $1 LIMIT CAST($2 AS bigint)) RETURNING 1"
)
_ORPHANS = (
    "DELETE FROM pexpolicy_meetings_aliases"
    " WHERE (tenant, id) NOT IN (SELECT tenant, id FROM pexpolicy_meetings)"
)


class Stored(NamedTuple):
    """A meeting after a change, once that is committed."""

    meeting: Meeting
    before: Meeting | None
    """``None`` for a new one, and for one that was cancelled before."""


class IdempotencyKey(NamedTuple):
    """The key of a request that creates a meeting, and the text of its body."""

    key: str
    body: str


class MeetingStore:
    """Meetings by tenant and id. Each method raises ``SharedUnavailableError``."""

    def __init__(
        self, pins: Pins, clock: Callable[[], float], retention_days: int, live: LiveValues
    ) -> None:
        self._pins = pins
        self._live = live
        self._clock = clock
        self._retention = retention_days * DAY_S
        self._tables = SharedTables("meetings", CREATE, timeout=TIMEOUT_S)
        self._calls = SharedTables("calls", CREATE)
        self._decode = msgspec.json.Decoder(Meeting).decode

    async def open(self) -> None:
        """Read the key of the PINs; raises ``SettingsError`` and ``WrongKeyError``."""
        self._pins.open(self._tables.state)
        with suppress(SharedUnavailableError):
            found = await self._tables.read("SELECT value, version FROM pexpolicy_meetings LIMIT 1")
            list(self._meetings(found))

    # ---- reading

    async def get(self, tenant: str, meeting_id: str) -> Meeting | None:
        """Return a meeting, also one that was cancelled."""
        rows = await self._tables.read(_GET, tenant, meeting_id)
        return next(self._meetings(rows), None)

    async def by_alias(self, alias: str) -> list[Meeting]:
        """Return the meetings to which an alias leads, the nearest to the present time first.

        It is that which is open, or the next one or the last one; the user part of an alias is
        enough. Those of invitations are found as well. At most five.
        """
        called, now = Alias(alias), self._clock()
        full = "" if called.bare else str(called)
        rows = await self._calls.read(_BY_ALIAS, called.user, full, now)
        return sorted(self._meetings(rows), key=lambda one: _distance(one, now))

    async def listed(
        self,
        tenant: str,
        *,
        since: float = 0.0,
        until: float = 1e12,
        state: str | None = None,
        series: str = "",
        limit: int = 100,
        after: Place = FIRST,
    ) -> tuple[list[Meeting], Place | None]:
        """Return meetings that are at least partly within a time, and where the next ones begin.

        ``state`` ``open`` and ``running`` have the same ones.
        """
        sql = _LIST.format(_STATES[state] if state else "$6 IS NOT NULL")
        arguments = tenant, since, until, *after, self._clock(), series, limit + 1
        found = list(self._meetings(await self._tables.read(sql, *arguments)))
        last = found[limit - 1] if len(found) > limit else None
        return found[:limit], None if last is None else (last.start, last.id)

    async def closed(self, since: float) -> list[Meeting]:
        """Return the meetings of all tenants that have closed or were cancelled since a time."""
        rows = await self._tables.read(_CLOSED, since, self._clock())
        return list(self._meetings(rows))

    def _meetings(self, rows: Rows) -> Iterator[Meeting]:
        for value, version in rows:
            yield replace(_with_pins(self._decode(value), self._pins.unseal), version=version)

    # ---- changing

    async def change(
        self,
        tenant: TenantOf,
        meeting_id: str,
        edit: Callable[[Meeting | None], Meeting | R],
        key: IdempotencyKey | None = None,
        *,
        keeps_etag: bool = False,
    ) -> Stored | list[Fault] | R:
        """Set a meeting to what ``edit`` makes of the present one, and return it once committed.

        ``edit`` gets one that was cancelled, too. It may return something else than a meeting,
        which is returned; if another change came in between, it is called again. PINs and aliases
        that are empty are made. Aliases that others have at that time are faults, with status 409.
        ``keeps_etag``: no request has changed it.
        """
        for _ in range(MAX_ATTEMPTS):
            before = await self.get(tenant.name, meeting_id)
            if key is not None and (found := await self._of_key(tenant.name, key)) is not None:
                return found
            after = edit(before)
            if not isinstance(after, Meeting):
                return after
            if after == before:
                return Stored(before, before)
            is_new = before is None or before.cancelled_at is not None
            now = self._clock()
            answer = None
            if before is not None and self.participants(before.name):
                answer = before.answer or service_of(before, tenant)
            made = replace(
                self._completed(after, tenant),
                answer=answer,
                created=now if is_new else after.created,
                updated=after.updated if keeps_etag else now,
                etag=after.etag if keeps_etag else secrets.token_hex(8),
                version=secrets.token_hex(8),
            )
            used = self._used(made, before)
            if not used and await self._write(made, before, key):
                return Stored(made, None if is_new else before)
            if faults := list(_conflicts(after, before, used | await self._taken(made))):
                return faults
        raise SharedUnavailableError("others change the meetings all the time")

    def _completed(self, meeting: Meeting, tenant: TenantOf) -> Meeting:
        """Return a meeting with the aliases and PINs that it does not have yet."""
        aliases, days = meeting.aliases or (made_alias(tenant),), (meeting.start, meeting.end)
        host, guest = meeting.host_pin, meeting.guest_pin
        length = len(host or guest) or max(LENGTH, tenant.infinity.min_pin_length)
        host = host or made_pin(length, other=guest, aliases=aliases, days=days)
        if not guest and meeting.lobby != "none":
            guest = made_pin(length, other=host, aliases=aliases, days=days)
        return replace(meeting, aliases=aliases, host_pin=host, guest_pin=guest)

    async def _write(
        self, meeting: Meeting, before: Meeting | None, key: IdempotencyKey | None
    ) -> bool:
        locks, at = _names(meeting), (meeting.tenant, meeting.id, meeting.version)
        checked = locks if meeting.is_held else []
        expected, used = "" if before is None else before.version, "" if key is None else key.key
        row = (*self._row(meeting), expected, used, self._clock(), *checked)
        statements: list[Statement] = [
            (_PUT.format(_numbered(16, len(checked))), row),
            *[(_LEAVE, at)] * (before is not None),
            (_HOLD, [(*at, alias, _name(alias)) for alias in _aliases(meeting)]),
        ]
        if key is not None:
            locks = [*locks, f"{meeting.tenant}\n{used}"]
            expires = self._clock() + KEY_S
            statements.append((_KEEP_KEY, (*at, used, self._pins.digest(key.body), expires)))
        # Of two transactions with the same name or key, one begins after the other has ended.
        rows = await self._tables.write(*statements, locks=locks)
        return bool(rows[0]) or self._tables.is_dry

    def _row(self, meeting: Meeting) -> tuple[Any, ...]:
        value = msgspec.json.encode(_with_pins(meeting, self._pins.seal)).decode()
        opens, closes, cancelled = meeting.opens, meeting.closes, meeting.cancelled_at
        kept = max(closes, meeting.end, cancelled or 0.0) + self._retention
        return (
            *(meeting.tenant, meeting.id),
            *(opens, closes, meeting.start, meeting.end, cancelled or closes, kept),
            *(meeting.version, value, meeting.series or "", int(cancelled is not None)),
        )

    async def _taken(self, meeting: Meeting) -> set[str]:
        """Return the user parts of aliases that other meetings have at that time."""
        names = _names(meeting) if meeting.is_held else []
        at = meeting.tenant, meeting.id, meeting.opens, meeting.closes
        rows = await self._tables.read(_TAKEN.format(_numbered(5, len(names))), *at, *names)
        return {name for (name,) in rows}

    def _used(self, meeting: Meeting, before: Meeting | None) -> set[str]:
        """Return the user parts of new aliases that services of other plugins have."""
        kept = _names(before) if before is not None else []
        names = _names(meeting) if meeting.is_held else []
        services = self._live.services
        return {name for name in names if name not in kept and any(has(name) for has in services)}

    def participants(self, name: str) -> int:
        """Return how many people are in a service; none without the plugin ``live``."""
        if self._live.read is None:
            return 0
        asked: Any = SimpleNamespace(service_name=name, local_alias=None)
        return int(self._live.read(asked, "service") or 0)

    async def _of_key(self, tenant: str, key: IdempotencyKey) -> Stored | list[Fault] | None:
        """Return what an earlier request with the same key has made."""
        rows = await self._tables.read(_KEY, tenant, key.key, self._clock())
        if not rows:
            return None
        digest, meeting_id = rows[0]
        if digest != self._pins.digest(key.body):
            return [Fault("", "the Idempotency-Key was used for another body")]
        meeting = await self.get(tenant, meeting_id)
        if meeting is None:
            return [Fault("", "the meeting of the Idempotency-Key was deleted", 409)]
        return Stored(meeting, None)

    async def sweep(self) -> None:
        """Delete what is kept no longer."""
        now, deleted = self._clock(), SWEPT_AT_ONCE
        while deleted == SWEPT_AT_ONCE:
            sweep = _SWEEP, (now, SWEPT_AT_ONCE)
            deleted = len((await self._tables.write(sweep, (_ORPHANS, ())))[0])
        keys = "DELETE FROM pexpolicy_meetings_keys WHERE expires <= $1", (now,)
        await self._tables.write(keys)


def _with_pins(meeting: Meeting, change: Callable[[str, str], str]) -> Meeting:
    """Return a meeting with its PINs sealed, or unsealed."""
    about, pins = f"{meeting.tenant}\n{meeting.id}", (meeting.host_pin, meeting.guest_pin)
    host, guest = (pin and change(pin, about) for pin in pins)
    return replace(meeting, host_pin=host, guest_pin=guest)


def _conflicts(after: Meeting, before: Meeting | None, taken: set[str]) -> Iterable[Fault]:
    """Yield a fault for each alias that others have, except for those that were just made."""
    known = before.invitations if before is not None else ()
    named = [(pointer("aliases", n), one) for n, one in enumerate(after.aliases)]
    named += [(pointer("invitations", n, "alias"), one.alias) for n, one in enumerate(known)]
    for at, alias in named:
        if _name(alias) in taken:
            yield Fault(at, "is in use at that time", 409)


def made_alias(tenant: TenantOf, least: int = 0) -> str:
    """Return a random alias of a tenant, with at least so many random digits."""
    digits = max(tenant.digits, least)
    while True:
        alias = tenant.alias(str(secrets.randbelow(10**digits)).zfill(digits))
        if tenant.may_use(alias):  # another tenant may have a part of them
            return alias


def made_invitation(tenant: TenantOf, meeting: Meeting) -> Invitation:
    """Return an invitation to a meeting, with an alias that is too long to be guessed."""
    alias = made_alias(tenant, INVITATION_DIGITS)
    while meeting.has_alias(alias) or meeting.invitation(alias) is not None:
        alias = made_alias(tenant, INVITATION_DIGITS)
    return Invitation(id=secrets.token_hex(8), alias=alias)


def _aliases(meeting: Meeting) -> list[str]:
    return [*meeting.aliases, *(one.alias for one in meeting.invitations)]


def _names(meeting: Meeting) -> list[str]:
    return sorted({_name(alias) for alias in _aliases(meeting)})


def _name(alias: str) -> str:
    return alias.partition("@")[0]


def _numbered(first: int, count: int) -> str:
    """Return the names of arguments; of none, what no name is."""
    return ", ".join(f"${number}" for number in range(first, first + count)) or "NULL"


def _distance(meeting: Meeting, now: float) -> tuple[float, bool, float]:
    """Return how far a time is from a meeting: its window, or where it would have begun.

    Of two that are as far, the later one comes first.
    """
    if not meeting.is_held:
        return abs(meeting.opens - now), True, -meeting.opens
    return max(meeting.opens - now, now - meeting.closes, 0.0), False, -meeting.opens
