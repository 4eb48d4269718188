"""Who is asked, in which order, and whose answer counts."""

import time
from collections.abc import Mapping

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
from tests.support.fake_plugins import Hook, Serve, always, plugin

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

    hooks = {"a": ABSTAIN, "b": blocks, "c": ABSTAIN, "d": decides}
    classes = {name: service(hook) for name, hook in hooks.items()}
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


PLAIN = {"service_type": "conference", "name": "Plain", "service_tag": "t"}
LOGIN = {"username": "u", "password": "p"}
SHOWN = [{"alias": "a@b", "description": "A", "username": ""}]
DECISIONS: list[tuple[str, object, str, object]] = [
    ("service_configuration", Reject(), "reject", None),
    ("service_configuration", Redirect(new_alias="s:b@c"), "redirect", {"new_alias": "s:b@c"}),
    ("service_configuration", {"new_alias": "s:b@c"}, "redirect", {"new_alias": "s:b@c"}),
    ("service_configuration", PLAIN, "continue", PLAIN),
    ("participant_properties", ParticipantProperties(spotlight=1), "continue", {"spotlight": 1}),
    ("participant_properties", {"call_tag": "x"}, "continue", {"call_tag": "x"}),
    ("participant_properties", Reject(reject_reason="x"), "reject", {"reject_reason": "x"}),
    ("media_location", {"location": "Oslo"}, "continue", {"location": "Oslo"}),
    (
        "media_location",
        MediaLocation(location="Oslo", overflow_locations=["Rome"]),
        "continue",
        {"location": "Oslo", "overflow_locations": ["Rome"]},
    ),
    (
        "directory_information",
        Directory(entries=[DirectoryEntry(alias="a@b", description="A")], ignore_local=True),
        "",
        SHOWN,
    ),
    ("directory_information", {"entries": SHOWN}, "", SHOWN),
    ("registration_alias", Credentials(username="u", password="p"), "continue", LOGIN),
    ("registration_alias", LOGIN, "continue", LOGIN),
    (
        "registration_alias",
        Credentials.without_authentication(),
        "continue",
        {"username": "", "password": ""},
    ),
    ("registration_alias", Reject(), "reject", {}),
]


@pytest.mark.parametrize(("endpoint", "decision", "action", "result"), DECISIONS)
async def test_a_decision_or_a_plain_dictionary_leaves_in_the_envelope_of_its_endpoint(
    serving: Serve, endpoint: str, decision: object, action: str, result: object
) -> None:
    async with serving({"toy": plugin(**{endpoint: always(decision)})}) as server:
        reply = await server.ask(wire.TARGETS[endpoint])
        expected: dict[str, object] = {"status": "success", "decided_by": "toy"}
        expected |= {"action": action} if action else {}
        expected |= {"result": result} if result is not None else {}
        if isinstance(decision, Directory):
            expected["ignore_local"] = True
        assert reply.status == 200
        assert reply.json == {**expected, "decision_id": reply.json["decision_id"]}


async def test_a_list_is_taken_for_the_directory_and_cut_to_the_limit(serving: Serve) -> None:
    entries = [DirectoryEntry(alias=f"a{n}", description="A") for n in range(12)]
    async with serving({"toy": plugin(directory_information=always(entries))}) as server:
        whole = await server.ask(wire.DIRECTORY)
        cut = await server.ask(wire.DIRECTORY + "?limit=10")
        assert [entry["alias"] for entry in whole.result] == [f"a{n}" for n in range(12)]
        assert [entry["alias"] for entry in cut.result] == [f"a{n}" for n in range(10)]


@pytest.mark.parametrize(
    "endpoint", ["service_configuration", "participant_properties", "registration_alias"]
)
async def test_the_default_of_an_endpoint_may_be_a_reject(serving: Serve, endpoint: str) -> None:
    async with serving({}, endpoints={endpoint: {"default": "reject"}}) as server:
        reply = await server.ask(wire.TARGETS[endpoint])
        assert (reply.action, bool(reply.result)) == ("reject", False)
        assert reply.json["decided_by"] == "default"
        assert reply.json["reason"] == "no plugin decided"


async def test_a_decision_holds_what_was_set_when_it_was_made(serving: Serve) -> None:
    overflow = ["Oslo"]
    decision = MediaLocation(location="Rome", overflow_locations=overflow)
    overflow.append("x" * 1000)
    async with serving({"toy": plugin(media_location=always(decision))}) as server:
        reply = await server.ask(wire.LOCATION)
        assert reply.result == {"location": "Rome", "overflow_locations": ["Oslo"]}
