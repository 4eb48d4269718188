"""Room table: look-up of a room by alias, and the changes from one table to the next."""

from __future__ import annotations

from collections.abc import Iterable
from sys import intern
from typing import NamedTuple

from pexpolicy import Alias, Service
from pexpolicy.files import named_changes
from pexpolicy_rooms.validity import Validity


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
