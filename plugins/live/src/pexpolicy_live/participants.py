"""What is known of participants, conferences and nodes, and how events are merged into it.

What an event says is kept with its stamp, and the later stamp wins, for each fact by itself. So the
result is the same in whatever order events arrive and however often. Nothing here is the name or
the address of a person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from pexpolicy.events import ConferenceEvent, Event, ParticipantEvent, SourceStale

Stamp = tuple[bool, float, int, str]
"""Whether the time of an event is plausible, then its time, number and node."""
TenantOf = Callable[[str, str], str | None]
"""Returns the tenant of an alias and a service tag, of which one may be empty."""

PRESENT = ("conference", "lecture", "gateway")
"""Service types in which a participant counts."""
WAITING = "waiting_room"
FACTS = ("service_type", "role", "protocol", "conversation_id", "call_direction")
FLAGS = ("is_streaming", "has_media")
MAX_NAME = 250
"""Characters of a name, the limit of Infinity."""
MAX_STAYS = 16
"""Rooms of one participant, and nodes of one conference, that are remembered."""
KEPT_S = 12 * 3600.0
"""Seconds after its last event that a participant ends, and after its cause that staleness ends. An
event that is further in the future changes nothing that others have told: it would outweigh all
events for as long.
"""
ENDED_S = 600.0
"""Seconds for which an end is remembered, so that a late event does not undo it."""


def stamp_of(event: Event) -> Stamp:
    """Return the order of an event among others, of other nodes too."""
    return event.time <= event.received + KEPT_S, event.time, event.seq, event.node


class Stay(msgspec.Struct, array_like=True, frozen=True):
    """When something was last reported to go on, and to have ended."""

    alive: Stamp | None = None
    ended: Stamp | None = None

    def merged(self, stamp: Stamp, *, is_end: bool) -> Stay:
        """Return it with one more report."""
        if is_end:
            return Stay(self.alive, max(self.ended or stamp, stamp))
        return Stay(max(self.alive or stamp, stamp), self.ended)

    @property
    def is_over(self) -> bool:
        """True if the end is the last that was reported."""
        return self.ended is not None and (self.alive is None or self.ended >= self.alive)

    @property
    def last(self) -> Stamp:
        """The last report."""
        return max(stamp for stamp in (self.alive, self.ended) if stamp is not None)


Stays = dict[str, Stay]


def _with(stays: Stays, name: str, stamp: Stamp, *, is_end: bool) -> Stays:
    found = {**stays, name: stays.get(name, Stay()).merged(stamp, is_end=is_end)}
    if len(found) > MAX_STAYS:
        del found[min(found, key=lambda one: found[one].last)]
    return found


class Conference(msgspec.Struct, frozen=True, tag="conference"):
    """A service as the nodes report it; each one reports its own start and end."""

    nodes: Stays = {}
    ends: dict[str, Stamp] = {}
    """The last end that each node reported while no other one went on."""

    def merged(self, event: ConferenceEvent) -> Conference:
        """Return it with the report of a node."""
        is_end = event.event == "conference_ended"
        nodes = _with(self.nodes, event.node, stamp_of(event), is_end=is_end)
        going = [stay.alive for stay in nodes.values() if stay.alive and not stay.is_over]
        ends = {name: end for name, end in self.ends.items() if name in nodes}
        for name, stay in nodes.items():
            if (end := stay.ended) is not None and all(began > end for began in going):
                ends[name] = end
        return Conference(nodes, ends)

    def has_ended(self, alive: Stamp) -> bool:
        """Return whether a participant who was last reported then has left with its end.

        That is for good, also if it starts again. Participants decide; this removes those whose own
        end was lost. A node speaks for its own participants only: starts may be lost as well.
        """
        own = self.ends.get(alive[-1])
        return own is not None and own >= alive


class Participant(msgspec.Struct, frozen=True, tag="participant"):
    """One participant, by ``uuid`` over all rooms of a platform."""

    rooms: Stays = {}
    facts: dict[str, tuple[bool, float, int, str, str | bool]] = {}
    """By name: a stamp and the value."""
    is_connected: bool = False
    """True once a ``connect_time`` was reported, which a move may reset."""

    def merged(self, event: ParticipantEvent, tenant_of: TenantOf) -> Participant:
        """Return it with what an event says; absent fields say nothing."""
        stamp = stamp_of(event)
        room = None if event.conference is None else _clean(event.conference)
        if event.event == "participant_disconnected":
            rooms = _with(self.rooms, room or "", stamp, is_end=True)
            return msgspec.structs.replace(self, rooms=rooms)
        rooms = _with(self.rooms, room, stamp, is_end=False) if room else self.rooms
        facts = dict(self.facts)
        for name, value in _facts_of(event, tenant_of):
            fact = (*stamp, value)
            facts[name] = max(facts.get(name, fact), fact)
        is_connected = self.is_connected or event.connect_time is not None
        return Participant(rooms, facts, is_connected)

    def fact(self, name: str) -> str | bool | None:
        """Return the latest value of a fact."""
        found = self.facts.get(name)
        return None if found is None else found[-1]

    @property
    def room(self) -> tuple[str, Stamp] | None:
        """The service in which the participant is, and when that was last reported.

        A new room replaces the one before, and an end that names a former room ends nothing.
        """
        alive = [(stay.alive, name) for name, stay in self.rooms.items() if stay.alive is not None]
        if not alive:
            return None
        last, room = max(alive)
        for name, stay in self.rooms.items():
            is_here = name == room or stay.alive is None
            if is_here and stay.ended is not None and stay.ended >= last:
                return None
        return room, last

    @property
    def is_over(self) -> bool:
        """True after the end of the call."""
        return self.room is None and any(stay.ended for stay in self.rooms.values())

    @property
    def is_person(self) -> bool:
        """True unless it is a second leg, such as the signalling of a web app, or a recording."""
        is_far_side = (
            self.fact("service_type") == "gateway" and self.fact("call_direction") == "out"
        )
        return not (is_far_side or self.fact("protocol") == "api" or self.fact("is_streaming"))

    @property
    def is_present(self) -> bool:
        """True for a person in a conference; control-only participants are none."""
        is_in = self.fact("service_type") in PRESENT and self.is_connected
        return is_in and self.is_person and self.fact("has_media") is not False

    @property
    def is_waiting(self) -> bool:
        """True for a person in a waiting room."""
        return self.fact("service_type") == WAITING and self.is_person

    @property
    def tenant(self) -> str | None:
        """The tenant of the service tag, or else of the dialed alias."""
        found = self.fact("tenant_by_tag") or self.fact("tenant_by_alias")
        return str(found) if found else None


def _clean(text: str) -> str:
    """Return a text as it can be stored."""
    return text[:MAX_NAME].encode("utf-8", "replace").decode()


def _facts_of(event: ParticipantEvent, tenant_of: TenantOf) -> Iterator[tuple[str, str | bool]]:
    for name in FACTS:
        if (value := getattr(event, name)) is not None:
            yield name, _clean(value)
    for name in FLAGS:
        if (value := getattr(event, name)) is not None:
            yield name, value
    # The alias may be a person's, so only what it leads to is kept. After a move it may be a room.
    alias = event.destination_alias if event.call_direction != "out" else None
    if alias is not None and (tenant := tenant_of(alias, "")) is not None:
        yield "tenant_by_alias", tenant
    if event.service_tag is not None:
        yield "tenant_by_tag", tenant_of("", event.service_tag) or ""


class Stale(msgspec.Struct, frozen=True, tag="stale"):
    """That events of a node are missing."""

    why: str
    """Empty if nothing is missing any more."""
    since: float
    """Seconds since 1970."""

    @property
    def is_over(self) -> bool:
        """True if nothing is missing any more."""
        return not self.why


Row = Participant | Conference | Stale
Key = tuple[str, str, str]
"""Kind, source, and the ``uuid`` of a participant, the name of a conference or the node."""


def key_of(event: Event) -> Key | None:
    """Return what an event is about, if that is kept."""
    if isinstance(event, ParticipantEvent) and event.uuid and len(event.uuid) <= MAX_NAME:
        return "participant", event.source, _clean(event.uuid)
    is_update = event.event == "conference_updated"  # such as a lock
    if isinstance(event, ConferenceEvent) and event.name and not is_update:
        return "conference", event.source, _clean(event.name)
    if isinstance(event, SourceStale):
        return "stale", event.source, _clean(event.node)
    return None


def merged(row: Row | None, event: Event, tenant_of: TenantOf) -> Row:
    """Return what is known with what an event says."""
    if isinstance(event, ParticipantEvent):
        return (row if isinstance(row, Participant) else Participant()).merged(event, tenant_of)
    if isinstance(event, ConferenceEvent):
        return (row if isinstance(row, Conference) else Conference()).merged(event)
    assert isinstance(event, SourceStale)
    return Stale(_clean(event.why) if event.is_stale else "", event.received)


def seconds_kept(row: Row) -> float:
    """Return for how long a row is kept after its last event; a conference as long as those whose
    end it is.
    """
    return KEPT_S if isinstance(row, Conference) or not row.is_over else ENDED_S
