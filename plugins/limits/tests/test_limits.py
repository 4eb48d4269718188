"""Limits of tenants, with halves of each case on different servers or workers."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from pexpolicy.testing import Simulator
from pexpolicy.testing.simulator import Protocol
from tests.support.limited import annotations, request_of

ROOMS = {
    "rooms": {
        "settings": {
            "rooms": {
                f"{name.lower()}@acme.example.com": {"name": name, "service_tag": "t=acme"}
                for name in ("Board", "Lab")
            }
        }
    }
}


def rules(then: dict[str, Any]) -> dict[str, Any]:
    rule = {"name": "all", "endpoint": "service_configuration", "when": {}, "then": then}
    return {"rules": {"settings": {"rules": [rule]}}}


TWO = {"participants": {"hard": 2}}
FULL = "reject: limit of acme: 2 of 2"


async def test_two_present_by_events_leave_no_place_for_a_third(start: Any) -> None:
    async with start(TWO) as servers:
        for protocol in ("webrtc", "h323"):
            servers.platform.join("Board", protocol, alias="board@acme.example.com")
        await servers.report()
        outcome = await servers.outcome(request_of("third@example.com"))
        assert outcome.decided_by == "limits"
        assert outcome.decision.reason == "limit of acme: 2 of 2"
        assert annotations(outcome)["live.tenant"] == 2
        assert await servers.call(alias="desk@bolt.example.com") == "continue"
        assert await servers.call(alias="desk@elsewhere.example.com") == "continue"


async def test_fifty_calls_at_once_get_the_one_place(start: Any) -> None:
    async with start(TWO) as servers:
        servers.platform.join("Board", "sip", alias="board@acme.example.com")
        await servers.report()
        calls = [servers.call(f"caller{number}@example.com") for number in range(50)]
        assert Counter(await asyncio.gather(*calls)) == {"continue": 1, FULL: 49}


async def test_the_requests_of_one_call_take_one_place_and_its_event_replaces_it(
    start: Any,
) -> None:
    async with start(TWO) as servers:
        web = servers.platform
        ann = web.join("Board", "webrtc", alias="board@acme.example.com", caller="Ann")
        for request in web.requests[:2]:
            assert (await servers.outcome(request)).decision.action == "continue"
        assert (await servers.places())["acme/participants"] == 1
        await servers.report(times=2)
        assert (await servers.places())["acme/participants"] == 1
        assert await servers.call() == "continue"
        assert await servers.call("third@example.com") == FULL
        web.leave(ann)
        await servers.report()
        assert await servers.call("third@example.com") == "continue"


async def test_a_reservation_expires_without_an_event(start: Any) -> None:
    async with start({"participants": {"hard": 1}}) as servers:
        assert await servers.call() == "continue"
        servers.pass_time(29)
        assert await servers.call("other@example.com") == "reject: limit of acme: 1 of 1"
        servers.pass_time(1.1)
        assert await servers.call("other@example.com") == "continue"


async def test_the_end_of_a_conference_releases_whose_own_end_was_lost(start: Any) -> None:
    async with start(TWO) as servers:
        ann = servers.platform.join("Board", "sip", alias="board@acme.example.com")
        await servers.report()
        servers.platform.leave(ann)
        await servers.report(without="participant_disconnected")
        assert await servers.places() == {}
        servers.platform.join("Board", "sip", alias="board@acme.example.com")
        await servers.report()
        again = await servers.places()
        await servers.reconcile()
        assert (again["acme/participants"], await servers.places()) == (1, again)


async def test_an_event_holds_its_place_for_twelve_hours(start: Any) -> None:
    async with start({"participants": {"hard": 1}}) as servers:
        servers.platform.join("Board", "sip", through=["ivr", "waiting_room"], tag="t=acme")
        await servers.report()
        servers.pass_time(11.9 * 3600)
        assert (await servers.call()).startswith("reject")
        servers.pass_time(0.2 * 3600)
        assert await servers.call() == "continue"


@pytest.mark.parametrize(
    "fields",
    [
        {"call_direction": "dial_out"},
        {"call_direction": "non_dial"},
        {"breakout_uuid": "7b6d1f5e-6a5f-4a39-9c58-0c4f2d1b9a01"},
        {"alias": "112@acme.example.com"},
        {"alias": "sip:help-7@acme.example.com"},
    ],
)
async def test_what_takes_no_place_is_not_limited(start: Any, fields: dict[str, Any]) -> None:
    exempt = {"exempt": ["help-*@acme.example.com"], "participants": {"hard": 0}}
    async with start(exempt, exempt=["112@acme.example.com"]) as servers:
        assert await servers.call(**fields) == "continue"
        assert await servers.call() == "reject: limit of acme: 0 of 0"
        assert await servers.places() == {}


async def test_a_call_that_another_plugin_rejects_takes_no_place(start: Any) -> None:
    async with start(TWO, rules({"action": "reject", "reason": "closed"})) as servers:
        assert await servers.call() == "reject: rule all: closed"
        assert await servers.places() == {}


async def test_a_dry_run_takes_no_place(start: Any) -> None:
    async with start({"participants": {"hard": 1}}) as servers:
        for policy in servers.policies:
            policy._is_dry_run = True
        assert await servers.call() == "continue"
        assert await servers.places() == {}


@pytest.mark.parametrize(
    ("action", "expected"),
    [("log", (None, None)), ("bandwidth", (256_000, 256_000)), ("reject", None)],
)
async def test_a_soft_limit_may_only_lower_the_rate(
    start: Any, action: str, expected: tuple[int | None, ...] | None
) -> None:
    table = {"participants": {"soft": 1, "hard": 2}, "on_soft": action}
    async with start(table, ROOMS, max_callrate=256_000) as servers:
        assert await servers.call() == "continue"
        outcome = await servers.outcome(request_of("bob@example.com"))
        found = outcome.decision.set_fields()
        assert annotations(outcome)["limit"] == "limit of acme: 2 of 1"
        if expected is None:
            assert outcome.decision.reason == "limit of acme: 2 of 1"
            return
        assert outcome.decided_by == "rooms"
        assert (found.get("max_callrate_in"), found.get("max_callrate_out")) == expected
        assert await servers.call("third@example.com") == FULL


@pytest.mark.parametrize("action", ["log", "bandwidth"])
async def test_a_hard_limit_may_admit(start: Any, action: str) -> None:
    async with start({"participants": {"hard": 1}}, on_hard=action) as servers:
        for number in range(3):
            assert await servers.call(f"caller{number}@example.com") == "continue"
        assert (await servers.places())["acme/participants"] == 3


async def test_a_message_is_played_instead(start: Any) -> None:
    options = {"on_hard": "media_playback", "media_playlist_name": "Full"}
    async with start({"participants": {"hard": 0}}, ROOMS, **options) as servers:
        sent = (await servers.outcome(request_of("ann@example.com"))).decision
        assert sent.set_fields() == {
            "name": "limit of acme",
            "service_tag": "limits",
            "service_type": "media_playback",
            "media_playlist_name": "Full",
            "on_completion": {"disconnect": True},
        }
        assert sent.reason == "limit of acme: 0 of 0"
        assert await servers.places() == {}


async def test_meetings_and_their_people_are_limited(start: Any) -> None:
    limits = {"meetings": {"hard": 1}, "participants_per_meeting": {"hard": 2}}
    async with start({**limits, "participants": {"hard": 9}}, ROOMS) as servers:
        assert await servers.call() == "continue"
        full = "reject: limit of acme: 1 of 1 meetings"
        assert await servers.call("bob@example.com", "lab@acme.example.com") == full
        assert await servers.call("bob@example.com") == "continue"
        assert await servers.call("eve@example.com") == f"{FULL} in one meeting"
        assert await servers.places() == {
            "acme/meeting/Board": 2,
            "acme/meetings": 1,
            "acme/participants": 2,
        }
        people = [
            servers.platform.join("Board", "sip", alias="board@acme.example.com", caller=caller)
            for caller in ("ann@example.com", "bob@example.com")
        ]
        await servers.report()
        assert (await servers.places())["acme/meeting/Board"] == 2
        servers.pass_time(60)
        assert await servers.call("bob@example.com", "lab@acme.example.com") == full
        for person in people:
            servers.platform.leave(person)
        await servers.report()
        assert await servers.places() == {}
        assert await servers.call("bob@example.com", "lab@acme.example.com") == "continue"


async def test_rooms_of_infinity_are_known_after_their_first_event(start: Any) -> None:
    limits = {"meetings": {"hard": 1}, "participants_per_meeting": {"hard": 1}}
    async with start(limits) as servers:
        assert await servers.call() == "continue"
        servers.platform.join(
            "Own", "sip", alias="board@acme.example.com", caller="ann@example.com"
        )
        await servers.report()
        assert await servers.places() == {
            "acme/meeting/Own": 1,
            "acme/meetings": 1,
            "acme/participants": 1,
        }
        assert (await servers.call("bob@example.com")).endswith("1 of 1 in one meeting")
        assert (await servers.call(alias="lab@acme.example.com")).endswith("1 of 1 meetings")


async def test_calls_through_a_gateway_are_limited(start: Any) -> None:
    service = {
        "service_type": "gateway",
        "name": "teams",
        "service_tag": "t=acme",
        "outgoing_protocol": "teams",
        "local_alias": "a",
        "remote_alias": "b",
    }
    async with start({"gateway_calls": {"hard": 1}}, rules({"result": service})) as servers:
        servers.platform.join("teams", "teams", alias="board@acme.example.com", tag="t=acme")
        await servers.report()
        assert (await servers.places())["acme/gateway_calls"] == 1
        assert await servers.call() == "reject: limit of acme: 1 of 1 gateway calls"


@pytest.mark.parametrize("on_stale", ["enforce", "admit"])
async def test_events_that_are_missing(start: Any, on_stale: str) -> None:
    async with start({"participants": {"hard": 0}, "on_stale": on_stale}) as servers:
        assert (await servers.call()).startswith("reject")
        for is_stale in (True, False):
            await servers.limits(servers.next()).on_events([stale(is_stale=is_stale)])
            outcome = await servers.outcome(request_of(f"caller-{is_stale}@example.com"))
            admits = is_stale and on_stale == "admit"
            assert outcome.decision.action == ("continue" if admits else "reject")
            assert annotations(outcome).get("live.stale") == (True if admits else None)


def stale(*, is_stale: bool) -> Any:
    from pexpolicy.events import SourceStale  # noqa: PLC0415

    return SourceStale(
        source="default",
        node="10.44.0.1",
        seq=1,
        time=2.0,
        received=2.0,
        event="source_stale",
        why="a gap" if is_stale else "",
        is_stale=is_stale,
    )


@pytest.mark.parametrize("seed", range(4))
async def test_places_equal_the_truth_in_whatever_order_events_come(start: Any, seed: int) -> None:
    rng = random.Random(seed)
    async with start({"participants": {"hard": 99}, "meetings": {"hard": 99}}) as servers:
        platform = servers.platform = Simulator(rng, partial_updates=seed % 2 == 1)
        for _ in range(25):
            inside = [person for person in platform.people if person.service]
            if not inside or rng.random() < 0.6:
                protocol: Protocol = rng.choice(("webrtc", "sip", "h323", "teams"))
                room = "teams" if protocol == "teams" else rng.choice(("Board", "Lab"))
                through = () if protocol == "teams" else rng.choice(((), ("ivr", "waiting_room")))
                platform.join(room, protocol, alias=f"{room}@acme.example.com", through=through)
            elif rng.random() < 0.3 and (one := rng.choice(inside)).stage == "conference":
                platform.move(one, "Breakout")
            else:
                platform.leave(rng.choice(inside))
        bodies = platform.deliver(repeat=0.3, delay=9, reorder=9).bodies
        for at in range(0, len(bodies), 7):
            await servers.send(*bodies[at : at + 7])
        inside = [person for person in platform.people if person.service]
        rooms = {person.service for person in inside if person.service != "teams"}
        expected = {"acme/participants": len(inside), "acme/meetings": len(rooms)}
        found = await servers.places()
        assert {name: found.get(name, 0) for name in expected} == expected


async def test_a_repair_gives_and_releases_places(start: Any) -> None:
    async with start({"participants": {"hard": 5}, "meetings": {"hard": 5}}) as servers:
        servers.platform.join("Board", "sip", alias="board@acme.example.com")
        await servers.report()
        places = await servers.places()
        servers.execute("DELETE FROM pexpolicy_shared WHERE part <> ''")
        servers.execute(
            "INSERT INTO pexpolicy_shared (name, key, part, expires)"
            " SELECT 'limits/Leases/places', 'acme/participants', 'default:gone', expires"
            " FROM pexpolicy_shared LIMIT 1"
        )
        await servers.reconcile()
        assert await servers.places() == places
