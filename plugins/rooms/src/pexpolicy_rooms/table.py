"""Room table: look-up of a room by alias, the time in which it exists, and changes of the table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import MAXYEAR, MINYEAR, date, datetime, time, timedelta, tzinfo
from typing import Any, NamedTuple

from pexpolicy import Alias, Key, Problem, Service
from pexpolicy.files import named_changes
from pexpolicy.text import brief

_FORMS = "2026-12-24, 2026-12-24T18:00 or 2026-12-24T18:00+01:00"


class Validity(NamedTuple):
    """From the first moment up to, excluding, the second; in seconds since 1970."""

    begins: float = float("-inf")
    ends: float = float("inf")
    written: str = ""
    """As an operator wrote it."""

    def holds(self, now: float) -> bool:
        """Return whether a time is within."""
        return self.begins <= now < self.ends


def validity_of(
    key: Key, fields: dict[str, Any], zone: tzinfo | None, problems: list[Problem]
) -> Validity:
    """Remove ``valid_from`` and ``valid_until`` from the fields of a room, and return the time.

    A day without a time is a whole day, the last one included. Times without an offset are in
    ``zone``. Databases write a day of the year 1 or 9999 for no limit.
    """
    names = [name for name in ("valid_from", "valid_until") if name in fields]
    written = " ".join(f"{name.removeprefix('valid_')} {fields[name]}" for name in names)
    found = dict(_moments(key, fields, zone, problems))
    if not found:
        return Validity()
    validity = Validity(**found, written=written)
    if validity.ends <= validity.begins:
        problems.append(Problem((*key, "valid_until"), "is not after valid_from"))
    return validity


def _moments(
    key: Key, fields: dict[str, Any], zone: tzinfo | None, problems: list[Problem]
) -> Iterable[tuple[str, float]]:
    for name, end, days, unlimited in (
        ("valid_from", "begins", 0, MINYEAR),
        ("valid_until", "ends", 1, MAXYEAR),
    ):
        if name not in fields:
            continue
        written = fields.pop(name)
        moment = _moment(written, days)
        if moment is None:
            text = f"{brief(written)} is not a day or a time; write it as in {_FORMS}"
            problems.append(Problem((*key, name), text))
        elif moment.year == unlimited:
            continue
        elif moment.tzinfo is None and zone is None:
            text = 'has no offset to UTC: set zone = "Europe/Oslo", with the zone of your clock'
            problems.append(Problem((*key, name), text))
        else:
            local = moment if moment.tzinfo else moment.replace(tzinfo=zone)
            yield end, local.timestamp()


def _moment(written: object, days: int) -> datetime | None:
    """Return a moment; for a day, its midnight ``days`` later."""
    if isinstance(written, str):
        try:
            written = date.fromisoformat(written)
        except ValueError:
            try:
                written = datetime.fromisoformat(str(written))
            except ValueError:
                return None
    if isinstance(written, datetime):
        return written
    if isinstance(written, date):
        later = timedelta(days=days)
        return datetime.combine(min(written, date.max - later) + later, time())
    return None


class TimedService(NamedTuple):
    """A service, and the time in which it exists."""

    service: Service
    validity: Validity


class RoomEntry(NamedTuple):
    """An alias in its normal form, and the room that it leads to, for people."""

    alias: str
    service: Service
    valid: str
    """When the room exists; empty for always."""


class RoomTable:
    """Rooms by the user part of their aliases.

    An alias with a host meets the room of that alias, or a room whose alias is its bare user part.
    A bare alias meets the room of that bare alias, or the one room that has it as its user part.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, TimedService] = {}
        self._by_user: dict[str, str] = {}
        """The one alias with a host that a user part has; empty for several."""
        self._names: frozenset[str] | None = None

    def add(self, alias: Alias, room: TimedService) -> bool:
        """Add a room; return false if its alias already has one."""
        name = str(alias)
        if name in self._rooms:
            return False
        self._rooms[name] = room
        if not alias.bare:
            user = alias.user
            self._by_user[user] = "" if user in self._by_user else name
        return True

    def find(self, alias: Alias) -> TimedService | None:
        """Return the room for an alias, or ``None``."""
        other = self._by_user.get(alias.user, "") if alias.bare else alias.user
        return self._rooms.get(alias) or self._rooms.get(other)

    def uses(self, name: str) -> bool:
        """Return whether a name in lower case is that of a room, or the user part of an alias."""
        if self._names is None:
            self._names = frozenset(str(room.name).lower() for _, room in self.rooms())
        return name in self._rooms or name in self._by_user or name in self._names

    def is_ambiguous(self, alias: Alias) -> bool:
        """Return whether a bare alias is the user part of several rooms, so that none is found."""
        return alias.bare and alias not in self._rooms and self._by_user.get(alias.user) == ""

    def entries(self) -> Iterable[tuple[str, TimedService]]:
        """Yield each alias in its normal form, with its service and the time of that."""
        return self._rooms.items()

    def described(self) -> Iterable[RoomEntry]:
        """Yield each alias with its service, and the time of that in words."""
        for alias, room in self.entries():
            yield RoomEntry(alias, room.service, room.validity.written)

    def rooms(self) -> Iterable[tuple[str, Service]]:
        """Yield each alias in its normal form, with its service."""
        for alias, room in self.entries():
            yield alias, room.service

    def __len__(self) -> int:
        return len(self._rooms)

    def ambiguities(self) -> Iterable[tuple[str, list[str]]]:
        """Yield each ambiguous bare name with the hosts of its rooms."""
        hosts: dict[str, list[str]] = {
            n: [] for n, alias in self._by_user.items() if not alias and n not in self._rooms
        }
        for alias in self._rooms if hosts else ():
            user, _, host = alias.rpartition("@")
            if user in hosts:
                hosts[user].append(host)
        return hosts.items()


def changed_rooms(table: RoomTable, previous: RoomTable) -> Iterable[str]:
    """Yield the names of the rooms that were added, removed and changed since ``previous``."""
    return named_changes(_by_name(previous), _by_name(table))


def _by_name(table: RoomTable) -> dict[str, dict[str, TimedService]]:
    rooms: dict[str, dict[str, TimedService]] = {}
    for alias, room in table.entries():
        rooms.setdefault(str(room.service.name), {})[alias] = room
    return rooms
