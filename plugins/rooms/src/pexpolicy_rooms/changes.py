"""Changes of the rooms from one configuration to the next."""

from __future__ import annotations

from collections.abc import Iterator

from pexpolicy import Service
from pexpolicy.plugins.changes import listed
from pexpolicy_rooms.table import RoomTable


def changed_rooms(table: RoomTable, previous: RoomTable) -> Iterator[str]:
    """Yield the names of the rooms that were added, removed and changed since ``previous``."""
    added: set[str] = set()
    removed: set[str] = set()
    changed: set[str] = set()
    kept = set(_equal(table, previous))
    for alias, service in table.rooms():
        if alias not in kept:
            added.add(_name(service))
    for alias, service in previous.rooms():
        if alias not in kept:
            removed.add(_name(service))
    if added or removed:
        # A room that keeps an alias, or has another one now, is still there.
        names = {_name(service) for alias, service in table.rooms() if alias in kept}
        changed = (added & removed) | (names & (added | removed))
    for what, rooms in (
        ("added", added - changed),
        ("removed", removed - changed),
        ("changed", changed),
    ):
        if rooms:
            yield f"{what} {listed(rooms)}"


def _equal(table: RoomTable, previous: RoomTable) -> Iterator[str]:
    """Yield the aliases that lead to the same in both."""
    before = dict(previous.entries())
    for alias, room in table.entries():
        if before.get(alias) == room:
            yield alias


def _name(service: Service) -> str:
    return str(service.name)
