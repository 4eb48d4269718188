"""Places of tenants: leases that calls reserve, and that the events of these calls replace."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pexpolicy import Leases, Store, Tenants
from pexpolicy.background.shared import storable
from pexpolicy.events import Event, ParticipantEvent
from pexpolicy.models.alias import Alias
from pexpolicy_live.participants import (
    KEPT_S,
    Conference,
    Key,
    Participant,
    Row,
    Stale,
    Stamp,
    key_of,
)
from pexpolicy_live.table import LiveTable

RESERVED_S = 30.0
"""Seconds within which an event of an admitted call has to come."""
HOLDING = ("connecting", "ivr", "waiting_room", "conference", "lecture", "gateway")
"""Service types in which a participant has a place: who waits was admitted and may come in."""
MAX_KNOWN = 100_000
"""Calls that are known; further ones take no place by their events."""
CHUNK = 500
"""Places that are given and released in one transaction."""
CALL = "call:"
"""The beginning of the holder of a reservation."""

Place = tuple[str, str]
"""The key of a lease and its holder."""


def participants(tenant: str) -> str:
    """Return the key of all people of a tenant."""
    return f"{tenant}/participants"


def gateway_calls(tenant: str) -> str:
    """Return the key of the calls through gateways."""
    return f"{tenant}/gateway_calls"


def meetings(tenant: str) -> str:
    """Return the key of the meetings of a tenant, which hold their places by their names."""
    return f"{tenant}/meetings"


def meeting(tenant: str, service: str) -> str:
    """Return the key of the people in one meeting."""
    return storable(f"{tenant}/meeting/{service}")


def by_alias(alias: str) -> str:
    """Return what stands for the name of a meeting of Infinity's own, until an event names it."""
    return f"alias:{Alias(alias)}"


class Reservations:
    """The holders of places between a request and the event of the same call."""

    def __init__(self) -> None:
        self._keys = Store("key", str)
        self._names = Store("names", str, ttl=KEPT_S)
        """The names of services of Infinity's own, by the dialed alias."""
        self._known: dict[str, str] = {}
        self._key = b""

    async def holder(self, alias: str, caller: str, name: str, address: str) -> str:
        """Return the holder for a call, which tells nothing about the caller.

        A caller without a display name is shown with the alias, and web guests have only a name. An
        event may have the dialed alias without its host.
        """
        if not self._key:
            made = await self._keys.update("hmac", lambda known: known or secrets.token_hex(32))
            assert made is not None
            if self._keys.is_dry:
                return CALL
            self._key = bytes.fromhex(made)
        parts = (Alias(alias).user, Alias(caller or name), Alias(name or caller), address)
        text = "\n".join(str(part) for part in parts)
        return (
            CALL + hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
        )

    async def name_of(self, alias: str) -> str:
        """Return the name of the service of Infinity's own that an alias leads to."""
        return await self._names.get(Alias(alias)) or by_alias(alias)

    async def learn(self, alias: str, name: str) -> None:
        """Remember to which service an alias led."""
        alias = Alias(alias)
        if self._known.get(alias) != name:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            await self._names.put(alias, name)
            self._known[alias] = name


class Places:
    """The places of all tenants, as the participants in the table of events hold them."""

    def __init__(self, tenants: Tenants, is_limited: Callable[[str], bool]) -> None:
        self.leases = Leases("places", ttl=RESERVED_S)
        self.stale = Store("stale", str, ttl=KEPT_S)
        """Why the events of a node are incomplete, by source and node."""
        self.reservations = Reservations()
        self._tenants = tenants
        self._is_limited = is_limited
        self._table = LiveTable(self._put, self._forget, "pexpolicy_limits")
        self._expires: dict[Key, float] = {}
        """When each call ends of which no further event comes."""
        self._held: dict[Key, frozenset[Place]] = {}
        """The places of each call that has any."""
        self._holders: dict[str, dict[str, set[Key]]] = {}
        """By key and holder, the calls that share a place: of one conversation, or meeting."""
        self._members: dict[Key, dict[Key, Stamp]] = {}
        """The calls in each conference, and when each was last reported."""
        self._in: dict[Key, Key] = {}
        """The conference that each call is in."""
        self._over: dict[Key, Conference] = {}
        self._reserved: dict[Key, tuple[str, str]] = {}
        """The reservation of each call: its holder, and what stood for the name of the meeting."""
        self._changed: dict[Place, set[Place]] = {}
        """Places to give or to release, each with reservations that end with it."""
        self._stale: dict[str, str | None] = {}
        self._working = asyncio.Lock()

    # ---- events

    async def take(self, events: Sequence[Event]) -> None:
        """Give and release places as events say; raises ``SharedUnavailableError``."""
        async with self._working:
            for event in events:
                if isinstance(event, ParticipantEvent) and (key := key_of(event)) is not None:
                    await self._learn(key, event)
            if await self._table.take(events, self._tenants.of, self._too_many):
                await self._follow()

    async def _learn(self, key: Key, event: ParticipantEvent) -> None:
        """Remember which reservation a call has, and to which service its alias leads."""
        alias = event.destination_alias
        if not alias or event.call_direction == "out" or self._tenant_of(event) is None:
            return
        if key not in self._reserved:
            caller, name = event.source_alias or "", event.display_name or ""
            address = event.remote_address or ""
            holder = await self.reservations.holder(alias, caller, name, address)
            self._reserved[key] = holder, by_alias(alias)
        # Later it may be a room that a reception has led to.
        if event.conference and event.service_type == "connecting":
            await self.reservations.learn(alias, event.conference)

    def _tenant_of(self, event: ParticipantEvent) -> str | None:
        tenant = self._tenants.of(event.destination_alias or "", event.service_tag)
        return tenant if tenant is not None and self._is_limited(tenant) else None

    def _too_many(self, _: str) -> str:
        is_full = len(self._expires) >= MAX_KNOWN
        return f"more than {MAX_KNOWN:,} calls: further ones take no place" if is_full else ""

    def _forget(self) -> None:
        known: tuple[dict[Any, Any], ...]
        known = self._expires, self._held, self._holders, self._changed, self._members
        for table in (*known, self._in, self._over):
            table.clear()

    async def _follow(self) -> None:
        """Give and release the places of what has changed in the table."""
        await self._table.follow()
        if self._stale:
            await self.stale.put_all(self._stale)
            self._stale.clear()
        while self._changed:
            places = list(self._changed)[:CHUNK]
            given = [(name, one) for name, one in places if one in self._holders.get(name, ())]
            ended = {one for place in places for one in self._changed[place]}
            released = ended.union(places).difference(given)
            await self.leases.change(given, released, ttl=KEPT_S)
            for place in places:
                del self._changed[place]

    def _put(self, key: Key, row: Row | None, now: float = 0.0, kept: float = 0.0) -> None:
        """Take what is known of a call, a conference or a node; ``None`` ends it."""
        if isinstance(row, Stale):
            self._stale["\n".join(key[1:])] = None if row.is_over else row.why
        elif key[0] == "conference":
            self._put_conference(key, row if isinstance(row, Conference) else None)
        elif key[0] == "participant":
            self._put_participant(key, row if isinstance(row, Participant) else None)
        if row is None or (isinstance(row, Participant) and row.is_over):
            self._expires.pop(key, None)
        else:
            self._expires[key] = now + kept

    def _put_conference(self, key: Key, row: Conference | None) -> None:
        """Take what is known of a conference; its end ends calls whose own end was lost."""
        self._over.pop(key, None)
        if row is not None and row.ends:
            self._over[key] = row
            for call, alive in list(self._members.get(key, {}).items()):
                if row.has_ended(alive):
                    self._put(call, None)

    def _put_participant(self, key: Key, row: Participant | None) -> None:
        before, after = self._held.pop(key, frozenset()), frozenset[Place]()
        left = self._in.pop(key, key)
        members = self._members.get(left, {})
        members.pop(key, None)
        if not members:
            self._members.pop(left, None)
        if row is not None and key not in self._expires:
            before = self._former_places_of(key, row)  # which another server may have given it
        if row is not None and (room := row.room) is not None:
            conference = "conference", key[1], room[0]
            over = self._over.get(conference)
            if over is None or not over.has_ended(room[1]):
                self._in[key] = conference
                self._members.setdefault(conference, {})[key] = room[1]
                after = self._places_of(key, row)
        if after:
            self._held[key] = after
        else:
            self._reserved.pop(key, None)
        self._exchange(key, before - after, after)

    def _exchange(self, key: Key, lost: Iterable[Place], kept: Iterable[Place]) -> None:
        """Take places from a call, and give it others."""
        for name, holder in lost:
            holders = self._holders.get(name, {})
            calls = holders.get(holder, set())
            calls.discard(key)
            if not calls:
                holders.pop(holder, None)
                self._changed.setdefault((name, holder), set())
            if not holders:
                self._holders.pop(name, None)
        for name, holder in kept:
            calls = self._holders.setdefault(name, {}).setdefault(holder, set())
            if key not in calls:
                calls.add(key)
                ended = self._reservations_of(key, name)
                self._changed.setdefault((name, holder), set()).update(ended)

    def _places_of(self, key: Key, row: Participant) -> frozenset[Place]:
        stage, room = row.fact("service_type"), row.room
        if room is None or stage not in HOLDING or not row.is_person:
            return frozenset()
        if row.fact("call_direction") == "out" or row.fact("has_media") is False:
            return frozenset()
        if stage == "connecting":  # which may become a call through a gateway
            return self._places_in(key, row, (), is_gateway=False)
        if stage == "gateway":
            return self._places_in(key, row, (), is_gateway=True)
        return self._places_in(key, row, (room[0],), is_gateway=False)

    def _former_places_of(self, key: Key, row: Participant) -> frozenset[Place]:
        """Return all places that a call may have had."""
        return self._places_in(key, row, filter(None, row.rooms), is_gateway=True)

    def _places_in(
        self, key: Key, row: Participant, services: Iterable[str], *, is_gateway: bool
    ) -> frozenset[Place]:
        tenant = row.tenant
        if tenant is None or not self._is_limited(tenant):
            return frozenset()
        person = f"{key[1]}:{row.fact('conversation_id') or key[2]}"
        places = [(participants(tenant), person)]
        if is_gateway:
            places.append((gateway_calls(tenant), person))
        for service in map(storable, services):
            places += [(meeting(tenant, service), person), (meetings(tenant), service)]
        return frozenset(places)

    def _reservations_of(self, key: Key, name: str) -> list[Place]:
        """Return what the request of a call has reserved, which ends when it has its place."""
        if (found := self._reserved.get(key)) is None:
            return []
        holder, alias = found
        tenant = name.partition("/")[0]
        if name == meetings(tenant):
            return [(name, alias)]
        is_one = name.startswith(f"{tenant}/meeting/")
        return [(one, holder) for one in (name, *[meeting(tenant, alias)] * is_one)]

    # ---- repair

    async def reconcile(self) -> None:
        """Repair what a crash between two writes, or an expiry, has left behind."""
        now = time.monotonic()
        async with self._working:
            for key in [key for key, at in self._expires.items() if at <= now]:
                self._put(key, None)
            counts = await self.leases.counts()
            await self._follow()
            wrong = [
                name
                for name in {*counts, *self._holders}
                if counts.get(name, 0) != len(self._holders.get(name, ()))
            ]
            # In this order: what has a place now is in the table already.
            found = {name: await self.leases.holders(name) for name in wrong}
            await self._follow()
            for name, holders in found.items():
                wanted = set(self._holders.get(name, ()))
                left = [(name, one) for one in holders if one not in wanted]
                extra = [place for place in left if not _may_be_reserved(place)]
                missing = [(name, one) for one in wanted.difference(holders)]
                await self.leases.change(missing, extra, ttl=KEPT_S)
        await self._table.sweep()


def _may_be_reserved(place: Place) -> bool:
    """Return whether a place may belong to a call of which no event came; it expires by itself."""
    name, holder = place
    return holder.startswith(CALL) or name.endswith("/meetings")
