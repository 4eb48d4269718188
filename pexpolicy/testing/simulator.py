"""Simulated platform: what Conferencing Nodes ask and report, and the truth of who is where."""

from __future__ import annotations

import random
from collections.abc import Sequence
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


_SECOND_LEG: dict[str, Event] = {
    "webrtc": {"protocol": "API", "has_media": False},
    "teams": {"protocol": "TEAMS", "call_direction": "out"},
}
"""How it differs from the person's own one."""


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
        partial_updates: bool = False,
    ) -> None:
        self.script: list[Request | Event] = []
        """Policy requests and events in the order in which they happen."""
        self.people: list[Person] = []
        self.now = start
        """The clock of all nodes, in seconds since 1970."""
        self._rng = rng or random.Random(0)  # noqa: S311 - it repeats
        self._nodes, self._partial = tuple(nodes), partial_updates
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
        found: dict[str, Present] = {}
        for service, _ in self._hosted:
            people = [one for one in self.people if one.service == service]
            inside = [one for one in people if one.stage in PRESENT]
            hosts = sum(one.role == "chair" for one in inside)
            waiting = sum(one.stage == "waiting_room" for one in people)
            found[service] = Present(len(inside), hosts, waiting)
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
        node: str | None = None,
    ) -> Person:
        """Let a person call ``alias``, by default the name of the service, on a node.

        The person passes the stages ``through`` (``ivr``, ``waiting_room``) and stays in the last
        one until ``admit`` if it is the waiting room. A Teams call is a gateway call of two legs.
        """
        node = node or self._rng.choice(self._nodes)
        kind = "gateway" if protocol == "teams" else "conference"
        self.people.append(person := Person(service, "connecting", role, node))
        caller = caller or f"caller{len(self.people)}@example.com"
        uuid, other_uuid = self._uuid(), self._uuid()
        call_id = other_uuid if protocol == "h323" else uuid
        own: Event = {
            "uuid": uuid,
            "call_id": call_id,
            "conversation_id": call_id,
            "conference": service,
            "service_type": "connecting",
            "service_tag": tag,
            "call_direction": "in",
            "source_alias": caller,
            "destination_alias": alias or service,
            "display_name": caller,
            "role": "unknown",
            "protocol": {"webrtc": "WebRTC", "h323": "H323"}.get(protocol, "SIP"),
            "has_media": True,
            "is_streaming": False,
            "connect_time": None,
            "media_node": node,
            "remote_address": ADDRESS,
        }
        person.legs = [own]
        if (second := _SECOND_LEG.get(protocol)) is not None:
            person.legs.append({**own, **second, "uuid": other_uuid, "related_uuids": [uuid]})
        self._ask(person, protocol)
        self._host(service, node, +1, kind, tag)
        for leg in person.legs:
            self._report(node, "participant_connected", leg)
        for stage in (*through, *([] if "waiting_room" in through else [kind])):
            self._update(person, stage)
        return person

    def admit(self, person: Person) -> None:
        """Let a person in who waits."""
        self._update(person, "conference")

    def move(self, person: Person, service: str, *, node: str | None = None) -> None:
        """Move a person to another room, as into a breakout room or by a transfer.

        The nodes report ``participant_connected`` there and, as has been seen, no end of the stay
        before; ``connect_time`` may be null.
        """
        self._host(person.service, person.node, -1)
        person.service, person.node = service, node or person.node
        self._host(service, person.node, +1)
        for leg in person.legs:
            leg["conference"], leg["destination_alias"] = service, service
            moved = {**leg, "connect_time": self._rng.choice((None, leg["connect_time"]))}
            self._report(person.node, "participant_connected", moved)

    def leave(self, person: Person) -> None:
        """End the call of a person."""
        for leg in reversed(person.legs):
            end = {"disconnect_reason": "Call disconnected", "end_time": self.now}
            self._report(person.node, "participant_disconnected", {**leg, **end})
        self._host(person.service, person.node, -1)
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
        events = [event for _, event in arriving]
        bodies: list[Event] = []
        while events:
            size = self._rng.randint(1, bulk)
            taken, events = events[:size], events[size:]
            message = _event("eventsink_bulk", BULK_NODE, 0, self.now, taken)
            bodies.append(message if size > 1 else taken[0])
        return Delivery(bodies, lost)

    # ---- what nodes send

    def _ask(self, person: Person, protocol: Protocol) -> None:
        """Add the policy requests of a call; a web app asks twice for the service."""
        is_web, own = protocol == "webrtc", person.legs[0]
        fields = {
            "protocol": {"webrtc": "api", "teams": "sip"}.get(protocol, protocol),
            "remote_alias": own["source_alias"],
            "remote_display_name": own["source_alias"],
            "local_alias": own["destination_alias"],
            "node_ip": person.node,
            "remote_address": ADDRESS,
            "remote_port": 40000 + len(self.people) % 20000,
        }
        shape = "web" if is_web else "sip"
        for _ in range(1 + is_web):
            self.script.append(make_request("service_configuration", shape=shape, **fields))
            self.now += self._rng.uniform(1.3, 5.0) if is_web else 0.0
        fields |= {
            "protocol": "webrtc" if is_web else fields["protocol"],
            "service_name": person.service,
            "unique_service_name": person.service,
            "service_tag": own["service_tag"],
            "participant_uuid": person.uuid,
            "call_uuid": own["call_id"],
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

    def _host(
        self, service: str, node: str, change: int, kind: str = "conference", tag: str = ""
    ) -> None:
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
        self.script.append(_event(event, node, self._seq[node], self.now, dict(data)))

    def _uuid(self) -> str:
        self._ids += 1  # so that no two are equal, whatever the numbers are drawn from
        return str(UUID(int=self._rng.getrandbits(64) << 64 | self._ids, version=4))


def _event(name: str, node: str, seq: int, time: float, data: object) -> Event:
    return {"node": node, "seq": seq, "version": 2, "time": time, "event": name, "data": data}
