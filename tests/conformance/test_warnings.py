"""What the sources do not agree on, or advise against, is a warning and no violation."""

from typing import Any

import pytest
from aiohttp import web

from pexpolicy.conformance.findings import Level, Topic
from tests.conformance.run_flows import found, run_flows
from tests.conformance.servers import (
    LOCATION,
    PARTICIPANT,
    REGISTRATION,
    SERVICE,
    Question,
    room,
    serving,
    sound,
    success,
)

DOUBTFUL: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("guests without a PIN", SERVICE, {"allow_guests": True}),
    ("a guest PIN alone", SERVICE, {"guest_pin": "1234"}),
    ("a PIN that is empty", SERVICE, {"pin": "", "allow_guests": True}),
    (
        "PINs that end differently",
        SERVICE,
        {"allow_guests": True, "pin": "1234#", "guest_pin": "56789"},
    ),
    ("a layout that not all know", SERVICE, {"view": "one_main_twelve_pips"}),
    ("an unknown field", SERVICE, {"aliases": ["a"]}),
    ("credentials that are empty", REGISTRATION, {"username": "", "password": ""}),
    ("an undocumented property", PARTICIPANT, {"private_custom_properties": {}}),
    ("text for true", SERVICE, {"allow_guests": "True", "pin": "1234"}),
    ("text for false", PARTICIPANT, {"bypass_lock": "false"}),
    ("a reject in the result", PARTICIPANT, {"reject": True}),
    ("overflow of old", LOCATION, {"location": "A", "primary_overflow_location": "B"}),
    ("no location", LOCATION, {}),
)


@pytest.mark.parametrize(
    ("endpoint", "fields"), [row[1:] for row in DOUBTFUL], ids=[r[0] for r in DOUBTFUL]
)
async def test_what_the_sources_do_not_agree_on_is_a_warning(
    endpoint: str, fields: dict[str, Any]
) -> None:
    def answer(question: Question) -> web.StreamResponse:
        if question.endpoint != endpoint:
            return sound(question)
        return success(room(question, **fields) if endpoint == SERVICE else fields)

    async with serving(answer) as url:
        steps = await run_flows(url, ("web join, v39", "registration"))
    alike = {Topic.CREDENTIALS} if endpoint == REGISTRATION else set()
    assert {f.topic for f in found(steps)} <= alike
    assert found(steps, Level.WARNING)


async def test_a_gateway_may_have_another_name_for_the_same_question() -> None:
    def answer(question: Question) -> web.StreamResponse:
        needed = {"outgoing_protocol": "sip", "local_alias": "a", "remote_alias": "b"}
        named = room(question, name=f"rule:{question.number}", service_type="gateway", **needed)
        return success(named) if question.endpoint == SERVICE else sound(question)

    async with serving(answer) as url:
        steps = await run_flows(url, ("web join, v39",))
    assert found(steps) == []
    assert [f.topic for f in found(steps, Level.WARNING)] == [Topic.REPEATABLE]


async def test_a_service_without_a_tag_is_a_warning() -> None:
    def answer(question: Question) -> web.StreamResponse:
        untagged = {n: v for n, v in room(question).items() if n != "service_tag"}
        return success(untagged) if question.endpoint == SERVICE else sound(question)

    async with serving(answer) as url:
        steps = await run_flows(url, ("web join, v39",))
    assert found(steps) == []
    assert any("service_tag: is missing" in f.text for f in found(steps, Level.WARNING))
