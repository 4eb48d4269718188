"""The table of rooms: which room an alias meets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pexpolicy import Alias, Service


class Room(NamedTuple):
    """One room: the host of its alias, empty for a bare one, and the service that it leads to."""

    host: str
    service: Service


class RoomTable:
    """Rooms by the user part of their aliases.

    An alias with a host meets the room of that alias, or a room whose alias is its bare user part. A bare
    alias meets the room of that bare alias, or the one room that has it as its user part.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, Room | tuple[Room, ...]] = {}

    def add(self, alias: Alias, service: Service) -> bool:
        """Add a room; false when there is one of the same alias already."""
        room = Room(alias.host, service)
        before = self._rooms.get(alias.user)
        if before is None:
            self._rooms[alias.user] = room
            return True
        others = (before,) if isinstance(before, Room) else before
        if any(other.host == room.host for other in others):
            return False
        self._rooms[alias.user] = (*others, room)
        return True

    def find(self, alias: Alias) -> Service | None:
        """The service of the room that an alias meets, or ``None``."""
        found = self._rooms.get(alias.user)
        if found is None:
            return None
        host = alias.host
        if isinstance(found, Room):
            return found.service if not host or not found.host or host == found.host else None
        by_host = {room.host: room.service for room in found}
        return by_host.get(host) or by_host.get("")

    def is_ambiguous(self, alias: Alias) -> bool:
        """True for a bare alias that two rooms share as their user part, so that it meets neither."""
        return alias.bare and isinstance(self._rooms.get(alias.user), tuple)

    def ambiguities(self) -> Iterable[tuple[str, list[str]]]:
        """Each bare name that meets no room because several share it, with their hosts."""
        for user, rooms in self._rooms.items():
            if not isinstance(rooms, Room):
                hosts = [room.host for room in rooms]
                if "" not in hosts:
                    yield user, hosts
