"""Presence: the counts of people by service and tenant, brought up to date by each change."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from pexpolicy_live.participants import (
    ENDED_S,
    KEPT_S,
    Conference,
    Key,
    Participant,
    Row,
    Stale,
    Stamp,
)


class Counts(msgspec.Struct):
    """People in a service, or of a tenant."""

    participants: int = 0
    hosts: int = 0
    waiting: int = 0

    def __bool__(self) -> bool:
        return any((self.participants, self.hosts, self.waiting))

    def add(self, other: Counts, sign: int = 1) -> None:
        """Add other counts, or subtract them."""
        self.participants += sign * other.participants
        self.hosts += sign * other.hosts
        self.waiting += sign * other.waiting


class _Place(NamedTuple):
    source: str
    service: str


_Counted = tuple[Counts, str | None]
"""The counts of one person, and the tenant."""


class Presence:
    """Who is where. The calls of one conversation are one person. Times in seconds."""

    def __init__(self) -> None:
        self.services: dict[str, Counts] = {}
        """By name, of all platforms together; for a while also without anybody."""
        self.tenants: dict[str, Counts] = {}
        """Those with anybody."""
        self.total = Counts()
        self.stale: dict[tuple[str, str], Stale] = {}
        """By source and node."""
        self.known: Counter[str] = Counter()
        """Calls and conferences by source, whether they count or not."""
        self.changed: set[str] = set()
        """Tenants whose counts have changed; the reader clears it."""
        self._conferences: dict[_Place, Conference] = {}
        self._people: dict[_Place, dict[str, dict[str, tuple[Participant, Stamp]]]] = {}
        """By service, conversation and ``uuid``."""
        self._where: dict[Key, tuple[_Place, str]] = {}
        """Service and conversation of each call."""
        self._counted: dict[tuple[_Place, str], _Counted] = {}
        self._expires: dict[Key, float] = {}
        self._reported: dict[str, float] = {}
        """When anything of a service was last reported."""

    def put(self, key: Key, row: Row | None, now: float = 0.0, kept: float = KEPT_S) -> None:
        """Take what is known, for ``kept`` seconds from ``now``; ``None`` ends it."""
        kind, source, name = key
        if self._expires.pop(key, None) is not None:
            self.known[source] -= 1
        if row is not None and not (isinstance(row, Participant) and row.is_over):
            self._expires[key] = now + kept
            self.known[source] += 1
        if kind == "participant":
            assert row is None or isinstance(row, Participant)
            self._put_participant(key, row, now)
        elif kind == "stale":
            self.stale.pop((source, name), None)
            if isinstance(row, Stale) and not row.is_over:
                self.stale[source, name] = row
        else:
            place = _Place(source, name)
            self._conferences.pop(place, None)
            if isinstance(row, Conference):
                self._conferences[place] = row
                for conversation in self._people.get(place, ()) if row.ends else ():
                    self._count(place, conversation)

    def of_tenant(self, name: str) -> Counts:
        """Return the counts of a tenant."""
        return self.tenants.get(name) or Counts()

    def of_place(self, source: str | None, service: str) -> Counts:
        """Return the counts of a service on one platform, or on all together."""
        if source is None:
            return self.services.get(service) or Counts()
        place, counts = _Place(source, service), Counts()
        for conversation in self._people.get(place, ()):
            counts.add(self._counted[place, conversation][0])
        return counts

    def expire(self, now: float) -> None:
        """End what has expired."""
        for key in [key for key, at in self._expires.items() if at <= now]:
            self.put(key, None)
        for name in [name for name, counts in self.services.items() if not counts]:
            if self._reported.get(name, now) + ENDED_S <= now:
                del self.services[name]
                self._reported.pop(name, None)

    def _put_participant(self, key: Key, row: Participant | None, now: float) -> None:
        _, source, uuid = key
        if (before := self._where.pop(key, None)) is not None:
            place, conversation = before
            del self._people[place][conversation][uuid]
            self._count(place, conversation)
        for name in filter(None, row.rooms if row is not None else ()):
            self.services.setdefault(name, Counts())
            self._reported[name] = now
        if row is not None and (room := row.room) is not None:
            place, conversation = _Place(source, room[0]), str(row.fact("conversation_id") or uuid)
            self._where[key] = place, conversation
            found = self._people.setdefault(place, {}).setdefault(conversation, {})
            found[uuid] = row, room[1]
            self._count(place, conversation)

    def _count(self, place: _Place, conversation: str) -> None:
        """Count a person again."""
        if (before := self._counted.pop((place, conversation), None)) is not None:
            self._add(place.service, before, -1)
        if self._people[place][conversation]:
            counted = self._counted[place, conversation] = self._counts_of(place, conversation)
            self._add(place.service, counted, +1)
        else:
            del self._people[place][conversation]
        if not self._people[place]:
            del self._people[place]

    def calls(self, source: str) -> dict[str, Participant]:
        """Return the calls of a platform by ``uuid``, without those that have ended."""
        found = dict[str, Participant]()
        for place, people in self._people.items():
            for conversation in people if place.source == source else ():
                found |= self._inside(place, conversation)
        return found

    def _inside(self, place: _Place, conversation: str) -> dict[str, Participant]:
        conference = self._conferences.get(place)
        return {
            uuid: call
            for uuid, (call, alive) in self._people[place][conversation].items()
            if conference is None or not conference.has_ended(alive)
        }

    def _counts_of(self, place: _Place, conversation: str) -> _Counted:
        calls = self._inside(place, conversation).values()
        present = [call for call in calls if call.is_present]
        waits = not present and any(call.is_waiting for call in calls)
        is_host = any(call.fact("role") == "chair" for call in present)
        tenant = next((call.tenant for call in calls if call.tenant is not None), None)
        return Counts(int(bool(present)), int(is_host), int(waits)), tenant

    def _add(self, service: str, counted: _Counted, sign: int) -> None:
        counts, tenant = counted
        self.services.setdefault(service, Counts()).add(counts, sign)
        self.total.add(counts, sign)
        if tenant is not None:
            self.changed.add(tenant)
            total = self.tenants.setdefault(tenant, Counts())
            total.add(counts, sign)
            if not total:
                del self.tenants[tenant]
