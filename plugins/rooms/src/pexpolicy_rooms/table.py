"""Room table: look-up of a room by alias, the time in which it exists, and changes of the table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, time, timedelta, tzinfo
from sys import intern
from typing import Any, NamedTuple

from pexpolicy import Alias, Key, Problem, Service
from pexpolicy.files import named_changes
from pexpolicy.text import brief

_FORMS = "2026-12-24, 2026-12-24T18:00 or 2026-12-24T18:00+01:00"

_FIRST = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()


class Validity(NamedTuple):
    """From the first moment up to, excluding, the second; in seconds since 1970."""

    begins: float = float("-inf")
    ends: float = float("inf")

    def holds(self, now: float) -> bool:
        """Return whether a time is within."""
        return self.begins <= now < self.ends

    def __str__(self) -> str:
        begins = f"from {moment(self.begins)}" if self.begins > ALWAYS.begins else ""
        ends = f"until {moment(self.ends)}" if self.ends < ALWAYS.ends else ""
        return f"{begins} {ends}".strip()


ALWAYS = Validity()


def moment(seconds: float) -> str:
    """Return a time, in seconds since 1970, as text in UTC."""
    # In UTC, the first and the last day of some zones are in no year.
    known = min(max(seconds, _FIRST), _LAST)
    return f"{datetime.fromtimestamp(known, UTC):%Y-%m-%d %H:%M} UTC"


def validity_of(
    key: Key, fields: dict[str, Any], zone: tzinfo | None, problems: list[Problem]
) -> Validity:
    """Remove ``valid_from`` and ``valid_until`` from the fields of a room, and return the time.

    A day without a time is a whole day, the last one included. Times without an offset are in
    ``zone``. Databases write a day of the year 1 or 9999 for no limit.
    """
    found = dict(_moments(key, fields, zone, problems))
    if not found:
        return ALWAYS
    validity = Validity(**found)
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
    """A service that exists for some time only."""

    service: Service
    validity: Validity


class Room(NamedTuple):
    """A room: the host of its alias, empty for a bare one, and its service."""

    host: str
    service: Service | TimedService


class RoomEntry(NamedTuple):
    """An alias in its normal form, and the room that it leads to, for people."""

    alias: str
    service: Service
    valid: str
    """When the room exists; empty for always."""


def _host(alias: Alias) -> str:
    """Return the host in the normal form: one that is an IP address is not in it."""
    return "" if alias.bare else intern(alias.host)


class RoomTable:
    """Rooms by the user part of their aliases.

    An alias with a host meets the room of that alias, or a room whose alias is its bare user part.
    A bare alias meets the room of that bare alias, or the one room that has it as its user part.
    """

    def __init__(self) -> None:
        # Nearly every user part belongs to one room; a dictionary for each would cost most memory.
        self._rooms: dict[str, Room | dict[str, Service | TimedService]] = {}

    def add(self, alias: Alias, service: Service | TimedService) -> bool:
        """Add a room; return false if its alias already has one."""
        user, host = alias.user, _host(alias)
        before = self._rooms.get(user)
        if before is None:
            self._rooms[user] = Room(host, service)
            return True
        if isinstance(before, Room):
            before = {before.host: before.service}
        if host in before:
            return False
        before[host] = service
        self._rooms[user] = before
        return True

    def find(self, alias: Alias) -> Service | TimedService | None:
        """Return the service of the room for an alias, or ``None``."""
        found = self._rooms.get(alias.user)
        if found is None:
            return None
        host = "" if alias.bare else alias.host
        if isinstance(found, Room):
            return found.service if not host or not found.host or host == found.host else None
        return found.get(host) or found.get("")

    def is_ambiguous(self, alias: Alias) -> bool:
        """Return whether a bare alias is the user part of several rooms, so that none is found."""
        return (
            alias.bare
            and isinstance(found := self._rooms.get(alias.user), dict)
            and "" not in found
        )

    def entries(self) -> Iterable[tuple[str, Service | TimedService]]:
        """Yield each alias in its normal form, with its service and the time of that."""
        for user, found in self._rooms.items():
            for host, room in (found,) if isinstance(found, Room) else found.items():
                yield f"{user}@{host}" if host else user, room

    def described(self) -> Iterable[RoomEntry]:
        """Yield each alias with its service, and the time of that in words."""
        for alias, room in self.entries():
            if isinstance(room, TimedService):
                yield RoomEntry(alias, room.service, str(room.validity))
            else:
                yield RoomEntry(alias, room, "")

    def rooms(self) -> Iterable[tuple[str, Service]]:
        """Yield each alias in its normal form, with its service."""
        for alias, room in self.entries():
            yield alias, room.service if isinstance(room, TimedService) else room

    def __len__(self) -> int:
        return sum(1 if isinstance(found, Room) else len(found) for found in self._rooms.values())

    def ambiguities(self) -> Iterable[tuple[str, list[str]]]:
        """Yield each ambiguous bare name with the hosts of its rooms."""
        for user, rooms in self._rooms.items():
            if isinstance(rooms, dict) and "" not in rooms:
                yield user, list(rooms)


def changed_rooms(table: RoomTable, previous: RoomTable) -> Iterable[str]:
    """Yield the names of the rooms that were added, removed and changed since ``previous``."""
    return named_changes(_by_name(previous), _by_name(table))


def _by_name(table: RoomTable) -> dict[str, dict[str, Service | TimedService]]:
    rooms: dict[str, dict[str, Service | TimedService]] = {}
    for alias, room in table.entries():
        service = room.service if isinstance(room, TimedService) else room
        rooms.setdefault(str(service.name), {})[alias] = room
    return rooms
