"""The simulated platform: what its nodes ask and report, and what arrives of it."""

import random
from collections import Counter
from typing import Any

import pytest

from pexpolicy.testing import Simulator, url_of
from pexpolicy.testing.simulator import Event, Protocol


def names(events: list[Event], **wanted: Any) -> list[str]:
    found = [one for one in events if wanted.items() <= one["data"].items()]
    return [one["event"].removeprefix("participant_") for one in found]


@pytest.mark.parametrize(
    ("protocol", "asks", "legs"),
    [
        ("webrtc", ["api", "api", "webrtc"], ["WebRTC", "API"]),
        ("sip", ["sip", "sip"], ["SIP"]),
        ("h323", ["h323", "h323"], ["H323"]),
        ("teams", ["sip", "sip"], ["SIP", "TEAMS"]),
    ],
)
def test_a_join_is_requests_and_then_events(
    protocol: Protocol, asks: list[str], legs: list[str]
) -> None:
    platform = Simulator()
    person = platform.join("meet.acme", protocol, role="chair", through=["ivr"], tag="t=acme")
    assert [request.params["protocol"] for request in platform.requests] == asks
    assert all("local_alias=meet.acme" in str(url_of(one)) for one in platform.requests)
    assert platform.requests[-1].params["participant_uuid"] == person.uuid
    connected = [one["data"] for one in platform.events if one["event"] == "participant_connected"]
    assert [one["protocol"] for one in connected] == legs
    assert {(one["service_type"], one["connect_time"]) for one in connected} == {
        ("connecting", None)
    }
    assert len({one["conversation_id"] for one in connected}) == 1
    assert names(platform.events, uuid=person.uuid) == ["connected", "updated", "updated"]
    assert platform.truth() == {"meet.acme": (1, 1, 0)}


def test_the_truth_follows_people() -> None:
    platform = Simulator(nodes=["10.0.0.1"])
    ann = platform.join("red", role="chair")
    bob = platform.join("red", "sip", through=["ivr", "waiting_room"])
    assert platform.truth() == {"red": (1, 1, 1)}
    platform.admit(bob)
    platform.move(ann, "blue")
    assert platform.truth() == {"red": (1, 0, 0), "blue": (1, 1, 0)}
    platform.leave(bob)
    assert platform.truth() == {"red": (0, 0, 0), "blue": (1, 1, 0)}
    assert "conference_ended" in names(platform.events, name="red")
    assert "disconnected" not in names(platform.events, uuid=ann.uuid)


def test_numbers_begin_again_when_a_sink_restarts() -> None:
    platform = Simulator(nodes=["10.0.0.1"])
    platform.join("red", "sip")
    platform.restart_sink("10.0.0.1")
    platform.join("red", "sip")
    numbers = [event["seq"] for event in platform.events]
    assert numbers == [1, 2, 3, 4, 5, 1, 2, 3]


@pytest.mark.parametrize("faults", [{}, {"repeat": 0.5}, {"delay": 9}, {"reorder": 9}, {"bulk": 5}])
def test_everything_arrives_unless_it_is_lost(faults: dict[str, Any]) -> None:
    platform = Simulator(random.Random(3))
    for number in range(20):
        platform.join(f"room{number % 3}", "sip")
    arrived: list[Event] = []
    for body in platform.deliver(**faults).bodies:
        arrived += body["data"] if body["event"] == "eventsink_bulk" else [body]
    counted = Counter((event["node"], event["seq"]) for event in arrived)
    assert counted.keys() == {(event["node"], event["seq"]) for event in platform.events}
    assert (max(counted.values()) > 1) is ("repeat" in faults)
    in_order = [
        [e["seq"] for e in arrived if e["node"] == node] for node in ("10.44.0.1", "10.44.0.2")
    ]
    assert all(one == sorted(one) for one in in_order) is ("reorder" not in faults)
    assert (arrived == platform.events) is (not faults or "bulk" in faults)


def test_what_is_lost_is_named() -> None:
    platform = Simulator(random.Random(3))
    for _ in range(20):
        platform.join("red", "sip")
    bodies, lost = platform.deliver(lose=0.3)
    assert lost
    assert sorted(map(str, bodies + lost)) == sorted(map(str, platform.events))
