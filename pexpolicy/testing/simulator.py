"""Simulated platform: what Conferencing Nodes ask and report, and the truth of who is where."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pexpolicy.models.request import Request
from pexpolicy.testing.requests import make_request

Event = dict[str, Any]
"""An event as a node posts it."""
Protocol = Literal["webrtc", "sip", "h323", "teams"]

NODES = ("10.44.0.1", "10.44.0.2")
START = 1906531200.0
"""2030-06-01T08:00:00Z."""
PRESENT = ("conference", "lecture", "gateway")
BULK_NODE = "127.0.0.1"
ADDRESS = "10.44.250.22"


class Present(NamedTuple):
    """Who is in a service: people in all, those of them who are Hosts, and those who wait."""

    participants: int = 0
    hosts: int = 0
    waiting: int = 0


class Delivery(NamedTuple):
    """What a receiver gets of the events."""

    bodies: list[Event]
    """Bodies of requests in the order of their arrival, single events and bulk messages."""
    lost: list[Event]
    """Events that never arrive."""


@dataclass(eq=False)
class Person:
    """A caller, and the legs of the call as the events describe them."""

    service: str
    """Empty after the end of the call."""
    stage: str
    """``connecting``, ``ivr``, ``waiting_room``, or the type of the service."""
    role: Literal["chair", "guest"]
    node: str
    legs: list[dict[str, Any]] = field(default_factory=list, repr=False)
    """The fields of each leg; the first one is the person's own."""

    @property
    def uuid(self) -> str:
        """The ``uuid`` in requests and events."""
        return str(self.legs[0]["uuid"])


class Simulator:
    """A platform whose people join, wait, move and leave; its ``script`` is what a server gets.

    Each method changes the truth and adds what nodes ask and report of it. Everything is decided by
    ``rng`` and the calls, so two equal simulators have equal scripts. ``partial_updates`` sends in
    ``participant_updated`` the fields that changed; it is not known what Infinity does::

        platform = Simulator(random.Random(7))
        ann = platform.join("meet.acme", "webrtc", role="chair", tag="t=acme")
        bob = platform.join("meet.acme", "sip", through=["ivr", "waiting_room"])
        assert platform.truth() == {"meet.acme": Present(participants=1, hosts=1, waiting=1)}
        platform.admit(bob)
        for body in platform.deliver(repeat=0.2, delay=5).bodies:
            await http.post("/events/v1", json=body, auth=auth)
    """

    def __init__(
        self,
        rng: random.Random | None = None,
        *,
        nodes: Sequence[str] = NODES,
        start: float = START,
        version: Literal[1, 2] = 2,
        partial_updates: bool = False,
    ) -> None:
        self.script: list[Request | Event] = []
        """Policy requests and events in the order in which they happen."""
        self.people: list[Person] = []
        self.now = start
        """The clock of all nodes, in seconds since 1970."""
        self._rng = rng or random.Random(0)  # noqa: S311 - it repeats
        self._nodes, self._version, self._partial = tuple(nodes), version, partial_updates
        self._seq = dict.fromkeys(nodes, 0)
        self._ids = 0
        self._hosted: dict[tuple[str, str], int] = {}
        """How many people each service has on each node."""
        for node in nodes:
            self._report(node, "eventsink_started", {})

    @property
    def events(self) -> list[Event]:
        """The events of the script."""
        return [step for step in self.script if not isinstance(step, Request)]

    @property
    def requests(self) -> list[Request]:
        """The policy requests of the script."""
        return [step for step in self.script if isinstance(step, Request)]

    def truth(self) -> dict[str, Present]:
        """Return who is in each service that anybody has joined."""
        found = {service: Present() for service, _ in self._hosted}
        for person in self.people:
            if person.service:
                is_in, waits = person.stage in PRESENT, person.stage == "waiting_room"
                before, is_host = found[person.service], is_in and person.role == "chair"
                more = Present(is_in, is_host, waits)
                found[person.service] = Present(*map(sum, zip(before, more, strict=True)))
        return found

    # ---- what people do

    def join(  # noqa: PLR0913 - they have defaults and names
        self,
        service: str,
        protocol: Protocol = "webrtc",
        *,
        alias: str | None = None,
        caller: str | None = None,
        role: Literal["chair", "guest"] = "guest",
        tag: str = "",
        through: Sequence[str] = (),
        service_type: str = "conference",
        node: str | None = None,
    ) -> Person:
        """Let a person call ``alias``, by default the name of the service, on a node.

        The person passes the stages ``through`` (``ivr``, ``waiting_room``) and stays in the last
        one until ``admit`` if it is the waiting room. A Teams call is a gateway call of two legs.
        """
        node, number = node or self._rng.choice(self._nodes), len(self.people) + 1
        caller, alias = caller or f"caller{number}@example.com", alias or service
        kind = "gateway" if protocol == "teams" else service_type
        self.people.append(person := Person(service, "connecting", role, node))
        person.legs = self._legs(person, protocol, alias, caller, tag)
        self._ask(person, protocol, alias, caller, tag, number)
        self._host(service, node, kind, tag, +1)
        for leg in person.legs:
            self._report(node, "participant_connected", leg)
        for stage in (*through, *([] if "waiting_room" in through else [kind])):
            self._update(person, stage)
        return person

    def admit(self, person: Person, service_type: str = "conference") -> None:
        """Let a person in who waits."""
        self._update(person, service_type)

    def move(self, person: Person, service: str, *, node: str | None = None) -> None:
        """Move a person to another room, as into a breakout room or by a transfer.

        The nodes report ``participant_connected`` there and, as has been seen, no end of the stay
        before; ``connect_time`` may be null.
        """
        self._host(person.service, person.node, "conference", "", -1)
        person.service, person.node = service, node or person.node
        self._host(service, person.node, "conference", "", +1)
        for leg in person.legs:
            leg["conference"], leg["destination_alias"] = service, service
            moved = {**leg, "connect_time": self._rng.choice((None, leg["connect_time"]))}
            self._report(person.node, "participant_connected", moved)

    def leave(self, person: Person, reason: str = "Call disconnected") -> None:
        """End the call of a person."""
        for leg in reversed(person.legs):
            more = {"disconnect_reason": reason, "duration": 1.0, "end_time": self.now}
            self._report(person.node, "participant_disconnected", {**leg, **more})
        self._host(person.service, person.node, "conference", "", -1)
        person.service = ""

    def restart_sink(self, node: str) -> None:
        """Stop and start the sink of a node: its numbers begin again at 1."""
        self._report(node, self._rng.choice(("eventsink_stopped", "eventsink_ended")), {})
        self._seq[node] = 0
        self._report(node, "eventsink_started", {})

    # ---- what a receiver gets

    def deliver(
        self,
        *,
        repeat: float = 0.0,
        lose: float = 0.0,
        delay: int = 0,
        reorder: int = 0,
        bulk: int = 1,
    ) -> Delivery:
        """Return what arrives of the events; no later call depends on it.

        ``repeat`` and ``lose`` are the shares of events that arrive twice and never. By ``delay``
        the events of a node may arrive after up to so many of other nodes, in their own order; by
        ``reorder`` any event may. Up to ``bulk`` events that follow one another are one message.
        """
        arriving: list[tuple[float, Event]] = []
        lost: list[Event] = []
        slowest = dict.fromkeys(self._nodes, 0.0)
        for position, event in enumerate(self.events):
            if self._rng.random() < lose:
                lost.append(event)
                continue
            node = event["node"]
            slowest[node] = max(slowest[node], position + self._rng.randint(0, delay))
            times = 1 + (self._rng.random() < repeat)
            arriving += [(slowest[node] + self._rng.randint(0, reorder), event)] * times
        arriving.sort(key=lambda one: one[0])
        return Delivery(list(self._bodies([event for _, event in arriving], bulk)), lost)

    def _bodies(self, events: Sequence[Event], bulk: int) -> Iterator[Event]:
        while events:
            size = self._rng.randint(1, bulk)
            taken, events = events[:size], events[size:]
            envelope = {"node": BULK_NODE, "seq": 0, "version": self._version, "time": self.now}
            bulk_message = {"event": "eventsink_bulk", **envelope, "data": taken}
            yield bulk_message if size > 1 else taken[0]

    # ---- what nodes send

    def _legs(
        self, person: Person, protocol: Protocol, alias: str, caller: str, tag: str
    ) -> list[dict[str, Any]]:
        """Return the legs of a call, each as it is while it connects."""
        uuid = self._uuid()
        own: Event = {
            "uuid": uuid,
            "call_id": uuid,
            "conversation_id": uuid,
            "conference": person.service,
            "service_type": "connecting",
            "service_tag": tag,
            "call_direction": "in",
            "source_alias": caller,
            "destination_alias": alias,
            "display_name": caller,
            "role": "unknown",
            "protocol": {"webrtc": "WebRTC", "h323": "H323"}.get(protocol, "SIP"),
            "has_media": True,
            "is_streaming": False,
            "connect_time": None,
            "media_node": person.node,
            "remote_address": ADDRESS,
        }
        other: Event = {"uuid": self._uuid(), "related_uuids": [uuid]}
        if protocol == "h323":
            return [{**own, "call_id": other["uuid"], "conversation_id": other["uuid"]}]
        if protocol == "webrtc":
            return [own, {**own, **other, "protocol": "API", "has_media": False}]
        if protocol == "teams":
            return [own, {**own, **other, "protocol": "TEAMS", "call_direction": "out"}]
        return [own]

    def _ask(
        self, person: Person, protocol: Protocol, alias: str, caller: str, tag: str, number: int
    ) -> None:
        """Add the policy requests of a call; a web app asks twice for the service."""
        is_web = protocol == "webrtc"
        wire = {"webrtc": "api", "teams": "sip"}.get(protocol, protocol)
        fields = {
            "protocol": wire,
            "remote_alias": caller,
            "remote_display_name": caller,
            "local_alias": alias,
            "node_ip": person.node,
            "remote_address": ADDRESS,
            "remote_port": 40000 + number % 20000,
        }
        shape = "web" if is_web else "sip"
        for _ in range(1 + is_web):
            self.script.append(make_request("service_configuration", shape=shape, **fields))
            self.now += self._rng.uniform(1.3, 5.0) if is_web else 0.0
        fields |= {
            "protocol": protocol if is_web else wire,
            "service_name": person.service,
            "unique_service_name": person.service,
            "service_tag": tag,
            "participant_uuid": person.uuid,
            "call_uuid": person.legs[0]["call_id"],
            "preauthenticated_role": person.role,
        }
        self.script.append(make_request("participant_properties", shape=shape, **fields))

    def _update(self, person: Person, stage: str) -> None:
        """Report that a person reached a stage, and in the conference the role."""
        person.stage = stage
        role = person.role if stage in PRESENT else "unknown"
        for leg in person.legs:
            since = leg["connect_time"] or round(self.now, 6)
            changed = {"service_type": stage, "role": role, "connect_time": since}
            leg.update(changed)
            data = {"uuid": leg["uuid"], **changed} if self._partial else leg
            self._report(person.node, "participant_updated", data)

    def _host(self, service: str, node: str, kind: str, tag: str, change: int) -> None:
        """Report the start and the end of a conference on a node."""
        before = self._hosted.get((service, node), 0)
        after = self._hosted[service, node] = before + change
        data = {"name": service, "service_type": kind, "tag": tag, "is_locked": False}
        if not before:
            self._report(node, "conference_started", {**data, "start_time": self.now})
        if not after:
            self._report(node, "conference_ended", {**data, "end_time": self.now})

    def _report(self, node: str, event: str, data: dict[str, Any]) -> None:
        self.now = round(self.now + self._rng.uniform(0.001, 1.0), 6)
        self._seq[node] += 1
        envelope = {"node": node, "seq": self._seq[node], "version": self._version}
        self.script.append({**envelope, "time": self.now, "event": event, "data": dict(data)})

    def _uuid(self) -> str:
        self._ids += 1  # so that no two are equal, whatever the numbers are drawn from
        return str(UUID(int=self._rng.getrandbits(64) << 64 | self._ids, version=4))
