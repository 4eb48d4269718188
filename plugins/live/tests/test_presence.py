"""The pure state: whatever is repeated, delayed or reordered, the counts equal the truth."""

import random
from collections.abc import Mapping
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.events import Event as TypedEvent
from pexpolicy.events.nodes import Nodes
from pexpolicy.models.event import typed_event
from pexpolicy.testing import ManagementApi, Simulator
from pexpolicy.testing.simulator import NODES, Event, Protocol
from pexpolicy_live.participants import Key, Participant, Row, key_of, merged
from pexpolicy_live.presence import Presence
from pexpolicy_live.repair import ENDED, changes, listed

ROOMS = ["red", "green", "blue"]


@st.composite
def platforms(draw: st.DrawFn, *, restarts: bool = True) -> Simulator:
    """A platform after some minutes of joining, waiting, moving and leaving."""
    rng = draw(st.randoms(use_true_random=False))
    platform = Simulator(rng, partial_updates=draw(st.booleans()))
    for _ in range(draw(st.integers(1, 12))):
        inside = [one for one in platform.people if one.service]
        action = draw(st.sampled_from(("join", "join", "admit", "move", "leave", "restart")))
        if action == "restart" and restarts:
            platform.restart_sink("10.44.0.1")
        elif action in ("join", "restart") or not inside:
            protocol: Protocol = draw(st.sampled_from(get_args(Protocol)))
            through = draw(st.sampled_from(((), ("ivr",), ("ivr", "waiting_room"))))
            role: Any = draw(st.sampled_from(("chair", "guest")))
            through = () if protocol == "teams" else through
            platform.join(draw(st.sampled_from(ROOMS)), protocol, role=role, through=through)
        else:
            person = draw(st.sampled_from(inside))
            rooms = [room for room in ROOMS if room != person.service]
            if action == "leave":
                platform.leave(person)
            elif action == "admit" and person.stage == "waiting_room":
                platform.admit(person)
            elif action == "move" and person.stage == "conference":
                node = draw(st.sampled_from(("10.44.0.1", "10.44.0.2")))
                platform.move(person, draw(st.sampled_from(rooms)), node=node)
    return platform


class Receiver:
    """Merges events as the plugin does, without an engine."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self.presence = Presence()

    def receive(self, body: Event, nodes: Nodes | None = None, received: float = 2e9) -> None:
        for one in body["data"] if body["event"] == "eventsink_bulk" else [body]:
            event = typed_event(one, "default", received)
            for found in [event] if nodes is None else nodes.take(event):
                self.merge(found)

    def merge(self, event: TypedEvent) -> None:
        if (key := key_of(event)) is not None:
            row = self.rows[key] = merged(self.rows.get(key), event, lambda _, tag: tag)
            self.presence.put(key, row)

    @property
    def counts(self) -> dict[str, tuple[int, int, int]]:
        return {
            name: (counts.participants, counts.hosts, counts.waiting)
            for name, counts in self.presence.services.items()
        }


@given(
    platform=platforms(),
    repeat=st.floats(0, 1),
    delay=st.integers(0, 40),
    reorder=st.integers(0, 40),
    bulk=st.integers(1, 5),
)
def test_counts_equal_the_truth(
    platform: Simulator, repeat: float, delay: int, reorder: int, bulk: int
) -> None:
    receiver = Receiver()
    for body in platform.deliver(repeat=repeat, delay=delay, reorder=reorder, bulk=bulk).bodies:
        receiver.receive(body)
    assert receiver.counts == platform.truth()


@given(platform=platforms(restarts=False), lose=st.floats(0, 0.5), reorder=st.integers(0, 40))
def test_what_is_lost_is_stale(platform: Simulator, lose: float, reorder: int) -> None:
    receiver, nodes = Receiver(), Nodes()
    starts = len(NODES)
    for body in platform.events[:starts]:
        receiver.receive(body, nodes=nodes, received=0.0)
    for ended in nodes.expire(1e9):  # the staleness of the start
        receiver.merge(ended)
    assert not receiver.presence.stale
    bodies, lost = platform.deliver(lose=lose, reorder=reorder)
    for body in bodies:
        if body not in platform.events[:starts]:
            receiver.receive(body, nodes=nodes)
    last = {body["node"]: 0 for body in platform.events}
    for body in bodies:
        last[body["node"]] = max(last[body["node"]], body["seq"])
    missing = {one["node"] for one in lost if 1 < one["seq"] < last[one["node"]]}
    assert {node for _, node in receiver.presence.stale} == missing
    if not lost:
        assert receiver.counts == platform.truth()


def known(
    receiver: Receiver, told: Any = (), before: Mapping[str, Any] = {}
) -> dict[str, Participant]:
    rows = ((uuid, receiver.rows.get(("participant", "default", uuid))) for uuid in told)
    calls = ((uuid, row) for uuid, row in rows if isinstance(row, Participant))
    found = {uuid: row for uuid, row in calls if row.is_over or uuid in before}
    return found | receiver.presence.calls("default")


@given(
    platform=platforms(),
    lose=st.floats(0, 1),
    reorder=st.integers(0, 40),
    meanwhile=st.lists(st.sampled_from(["join early", "join late", "leave early", "leave late"])),
)
def test_after_a_repair_the_counts_equal_the_truth(
    platform: Simulator, lose: float, reorder: int, meanwhile: list[str]
) -> None:
    receiver = Receiver()
    for body in platform.deliver(lose=lose, reorder=reorder).bodies:
        receiver.receive(body)
    before, began = known(receiver), platform.now
    told = listed(ManagementApi(platform).listed("status", "participant") or ())
    late, people = [], [one for one in platform.people if one.service]
    for what in meanwhile:
        first = len(platform.events)
        if "join" in what:
            platform.join(ROOMS[len(platform.people) % 3], "sip", role="chair")
        elif people:
            platform.leave(people.pop())
        if "early" in what:
            for body in platform.events[first:]:
                receiver.receive(body)
        else:
            late += platform.events[first:]
    found = list(changes(before, known(receiver, told, before), told, began, lambda _, tag: tag))
    for _, event in found:
        receiver.receive(event)
    for body in late:
        receiver.receive(body)
    truth = {name: counts for name, counts in platform.truth().items() if any(counts)}
    assert {name: counts for name, counts in receiver.counts.items() if any(counts)} == truth
    again = changes(known(receiver), known(receiver), told, began, lambda _, tag: tag)
    assert meanwhile or not [*again]


@given(lose=st.booleans(), restarts=st.integers(1, 30), early=st.booleans())
def test_who_was_in_when_the_conference_ended_is_not_in_the_next_one(
    lose: bool, restarts: int, early: bool
) -> None:
    platform, receiver = Simulator(random.Random(2)), Receiver()
    for node in NODES * restarts:
        platform.leave(platform.join("red", "sip", node=node))
    platform.join("red", "sip", role="chair", node=NODES[1])
    lost = "participant_disconnected" if lose else ""
    found = [body for body in platform.events if body["event"] != lost]
    # The nodes are not in step: what one of them reports may come after all of the other.
    found.sort(key=lambda body: (body["node"] == NODES[0]) if early else body["time"])
    for body in found:
        receiver.receive(body)
    assert receiver.counts == platform.truth()


def test_what_the_api_lists_late_does_not_bring_back_who_has_left() -> None:
    platform, receiver = Simulator(random.Random(1)), Receiver()
    person = platform.join("red", "sip")
    told = listed(ManagementApi(platform).listed("status", "participant") or ())
    platform.leave(person)
    for body in platform.events:
        receiver.receive(body)
    after = known(receiver, told)
    assert not [*changes({}, after, told, platform.now + 5, lambda _, tag: tag)]


def test_a_participant_of_another_form_is_read() -> None:
    row = {"id": "a", "conference": "red", "role": "host", "connect_time": "2030-06-01T08:00:00Z"}
    found = listed(
        [
            row,
            {"id": 1},
            {"conference": "red"},
            {"id": "b", "conference": ""},
            {"id": "c", "conference": ["red"]},
            {"id": "d" * 300, "conference": "red"},
        ]
    )
    assert (found["a"]["role"], found["a"]["connect_time"]) == ("chair", 1906531200.0)
    assert listed([{**row, "connect_time": "soon"}])["a"]["connect_time"] is None
    assert [*found] == ["a"]
    row_of_it = Receiver()
    (one,) = changes(known(row_of_it), known(row_of_it), found, 1.0, lambda _, tag: tag)
    row_of_it.receive(one[1])
    assert row_of_it.counts == {"red": (0, 0, 0)}
    ended = [*changes(known(row_of_it), known(row_of_it), {}, 1.0, lambda _, tag: tag)]
    assert [what for what, _ in ended] == [ENDED]
