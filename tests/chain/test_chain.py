"""Who is asked, in which order, and whose answer counts."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from pexpolicy import (
    Conference,
    Continue,
    Credentials,
    Directory,
    DirectoryEntry,
    MediaLocation,
    ParticipantProperties,
    Redirect,
    Reject,
)
from pexpolicy.hooks import hookimpl
from tests.support import wire
from tests.support.fake_plugins import Hook, Serve, always, plugin, policy

ABSTAIN = always(None)


def room(name: str) -> Conference:
    return Conference(name=name, service_tag="")


def service(hook: Hook) -> type:
    return plugin(service_configuration=hook)


@pytest.mark.parametrize(
    ("priorities", "order"),
    [
        ({"a": 30, "b": 20, "c": 10}, "cba"),
        ({"a": 10, "b": 20, "c": 30}, "abc"),
        ({"a": 5, "b": -5, "c": 0}, "bca"),
        ({"c": 10, "a": 10, "b": 10}, "cab"),
        ({"b": 50, "c": 10, "a": 50}, "cba"),
        ({"a": 101, "b": None, "c": 99}, "cba"),
    ],
)
async def test_lower_priorities_are_asked_first_and_equal_ones_as_they_are_written(
    serving: Serve, priorities: Mapping[str, int | None], order: str
) -> None:
    tables = {
        name: {} if number is None else {"priority": number} for name, number in priorities.items()
    }
    async with serving({name: service(ABSTAIN) for name in tables}, tables) as server:
        await server.ask(wire.SERVICE)
        assert server.steps() == [(name, "abstained") for name in order]


async def test_the_first_answer_wins_and_no_other_plugin_is_asked(serving: Serve) -> None:
    asked: list[str] = []

    async def late_to_the_party(_: object) -> object:
        asked.append("third")
        return room("Third")

    classes = {
        "first": service(ABSTAIN),
        "second": service(always(room("Second"))),
        "third": service(late_to_the_party),
    }
    async with serving(classes) as server:
        reply = await server.ask(wire.SERVICE)
        assert reply.result["name"] == "Second"
        assert reply.json["decided_by"] == "second"
        assert server.steps() == [("first", "abstained"), ("second", "decided")]
        assert not asked


async def test_a_continue_ends_the_asking(serving: Serve) -> None:
    classes = {
        "first": service(always(Continue(reason="not ours"))),
        "second": service(always(room("Second"))),
    }
    async with serving(classes) as server:
        reply = await server.ask(wire.SERVICE)
        assert reply.action == "continue"
        assert reply.result is None
        assert reply.json["decided_by"] == "first"
        assert reply.json["reason"] == "not ours"


async def test_hooks_that_block_and_hooks_that_await_stand_in_one_chain(serving: Serve) -> None:
    def blocks(_: object) -> object:
        time.sleep(0)
        return None

    def decides(_: object) -> object:
        return room("From a thread")

    classes = {
        "a": service(ABSTAIN),
        "b": service(blocks),
        "c": service(ABSTAIN),
        "d": service(decides),
    }
    async with serving(classes) as server:
        reply = await server.ask(wire.SERVICE)
        assert reply.result["name"] == "From a thread"
        assert [outcome for _, outcome in server.steps()] == [*["abstained"] * 3, "decided"]


async def test_a_hook_need_not_take_the_request(serving: Serve) -> None:
    class Careless:
        def __init__(self, settings: object) -> None:
            self.settings = settings

        @hookimpl
        async def service_configuration(self) -> Conference:
            return room("Careless")

        @hookimpl
        def participant_properties(self) -> Reject:
            return Reject()

    async with serving({"careless": Careless}) as server:
        assert (await server.ask(wire.SERVICE)).result["name"] == "Careless"
        assert (await server.ask(wire.PARTICIPANT)).action == "reject"


async def test_a_plugin_is_asked_for_its_own_hooks_only(serving: Serve) -> None:
    async with serving({"rooms": service(always(room("Room")))}) as server:
        for name, target in wire.TARGETS.items():
            await server.ask(target)
            expected = [("rooms", "decided")] if name == "service_configuration" else []
            assert server.steps() == expected


DECISIONS: list[tuple[str, object, dict[str, Any]]] = [
    ("service_configuration", Reject(), {"action": "reject"}),
    (
        "service_configuration",
        Redirect(new_alias="sip:b@example.com"),
        {"action": "redirect", "result": {"new_alias": "sip:b@example.com"}},
    ),
    (
        "participant_properties",
        ParticipantProperties(spotlight=1),
        {"action": "continue", "result": {"spotlight": 1}},
    ),
    (
        "participant_properties",
        Reject(reject_reason="closed"),
        {"action": "reject", "result": {"reject_reason": "closed"}},
    ),
    (
        "media_location",
        MediaLocation(location="Oslo", overflow_locations=["Rome"]),
        {"action": "continue", "result": {"location": "Oslo", "overflow_locations": ["Rome"]}},
    ),
    (
        "directory_information",
        Directory(entries=[DirectoryEntry(alias="a@b", description="A")], ignore_local=True),
        {
            "result": [{"alias": "a@b", "description": "A", "username": ""}],
            "ignore_local": True,
        },
    ),
    (
        "registration_alias",
        Credentials(username="u", password="p"),
        {"action": "continue", "result": {"username": "u", "password": "p"}},
    ),
    (
        "registration_alias",
        Credentials.without_authentication(),
        {"action": "continue", "result": {"username": "", "password": ""}},
    ),
    ("registration_alias", Reject(), {"action": "reject", "result": {}}),
]


@pytest.mark.parametrize(("endpoint", "decision", "envelope"), DECISIONS)
async def test_a_decision_leaves_in_the_envelope_of_its_endpoint(
    serving: Serve, endpoint: str, decision: object, envelope: dict[str, Any]
) -> None:
    async with serving({"toy": plugin(**{endpoint: always(decision)})}) as server:
        reply = await server.ask(wire.TARGETS[endpoint])
        own = {"decision_id": reply.json["decision_id"], "decided_by": "toy"}
        assert reply.status == 200
        assert reply.json == {"status": "success", **envelope, **own}


@pytest.mark.parametrize(
    ("endpoint", "result", "expected"),
    [
        (
            "service_configuration",
            {"service_type": "conference", "name": "Plain", "service_tag": "t"},
            {"service_type": "conference", "name": "Plain", "service_tag": "t"},
        ),
        ("service_configuration", {"new_alias": "sip:a@b"}, {"new_alias": "sip:a@b"}),
        ("participant_properties", {"call_tag": "x"}, {"call_tag": "x"}),
        ("media_location", {"location": "Oslo"}, {"location": "Oslo"}),
        (
            "directory_information",
            {"entries": [{"alias": "a", "description": "A", "username": ""}]},
            [{"alias": "a", "description": "A", "username": ""}],
        ),
        (
            "registration_alias",
            {"username": "u", "password": "p"},
            {"username": "u", "password": "p"},
        ),
    ],
)
async def test_a_plain_dictionary_is_taken_for_the_result(
    serving: Serve, endpoint: str, result: dict[str, Any], expected: object
) -> None:
    async with serving({"toy": plugin(**{endpoint: always(result)})}) as server:
        reply = await server.ask(wire.TARGETS[endpoint])
        assert reply.json["decided_by"] == "toy"
        assert reply.result == expected


async def test_a_list_is_taken_for_the_directory_and_cut_to_the_limit(serving: Serve) -> None:
    entries = [DirectoryEntry(alias=f"a{n}", description="A") for n in range(12)]
    async with serving({"toy": plugin(directory_information=always(entries))}) as server:
        whole = await server.ask(wire.DIRECTORY)
        cut = await server.ask(wire.DIRECTORY + "?limit=10")
        assert [entry["alias"] for entry in whole.result] == [f"a{n}" for n in range(12)]
        assert [entry["alias"] for entry in cut.result] == [f"a{n}" for n in range(10)]


@pytest.mark.parametrize(
    ("endpoint", "action"),
    [
        ("service_configuration", "reject"),
        ("participant_properties", "reject"),
        ("registration_alias", "reject"),
    ],
)
async def test_the_default_of_an_endpoint_may_be_a_reject(
    serving: Serve, endpoint: str, action: str
) -> None:
    async with serving({}, endpoints={endpoint: {"default": "reject"}}) as server:
        reply = await server.ask(wire.TARGETS[endpoint])
        assert reply.action == action
        assert not reply.result
        assert reply.json["decided_by"] == "default"
        assert reply.json["reason"] == "no plugin decided"


async def test_a_decision_holds_what_was_set_when_it_was_made(serving: Serve) -> None:
    overflow = ["Oslo"]
    decision = MediaLocation(location="Rome", overflow_locations=overflow)
    overflow.append("x" * 1000)
    async with serving({"toy": plugin(media_location=always(decision))}) as server:
        reply = await server.ask(wire.LOCATION)
        assert reply.result == {"location": "Rome", "overflow_locations": ["Oslo"]}


async def test_a_policy_answers_the_same_call_the_same_each_time(serving: Serve) -> None:
    made = policy({"rooms": service(always(room("Room")))})
    async with serving(made) as server:
        replies = [await server.ask(wire.SERVICE) for _ in range(5)]
        ids = {reply.json["decision_id"] for reply in replies}
        without = {reply.body.replace(reply.json["decision_id"].encode(), b"") for reply in replies}
        assert len(ids) == 5
        assert len(without) == 1
