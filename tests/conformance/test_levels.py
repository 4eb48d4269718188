"""The levels of findings, warnings, and faults that a reply has in addition to its first."""

from typing import Any

import pytest
from aiohttp import web

from pexpolicy.conformance.findings import Level, Topic
from pexpolicy.conformance.runner import UnauthorizedError
from tests.conformance.answers import status
from tests.conformance.run_flows import found, run_flows
from tests.conformance.servers import (
    AVATAR,
    PARTICIPANT,
    SERVICE,
    Answer,
    Question,
    room,
    says,
    serving,
    sound,
    success,
)

WEB = ("web join, v39",)
VALUES = ("odd values",)


def at(endpoint: str, answer: Answer) -> Answer:
    return lambda question: (answer if question.endpoint == endpoint else sound)(question)


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        (status(500), Level.OPERATION),
        (status(400), Level.OPERATION),
        (status(403), Level.OPERATION),
        (status(301), Level.CONTRACT),
        (lambda _: says({"status": "no-match", "action": "continue"}), Level.FALLBACK),
        (lambda _: says({"status": "fail"}), Level.FALLBACK),
        (lambda _: says({"action": "continue"}), Level.FALLBACK),
        (lambda q: says({"status": "fail", "result": room(q)}), Level.CONTRACT),
        (lambda _: says({"status": "fail", "action": "reject"}), Level.WARNING),
    ],
)
async def test_a_fault_has_the_level_of_its_consequence(answer: Answer, level: Level) -> None:
    async with serving(at(SERVICE, answer)) as url:
        steps = await run_flows(url, WEB)
    asked = [step for step in steps if step.flow in WEB]
    levels = {f.level for f in found(asked, *Level) if f.topic in (Topic.STATUS, Topic.ENVELOPE)}
    assert levels == {level}


async def test_a_page_of_an_error_is_reported_once() -> None:
    def fail(_: Question) -> web.Response:
        return web.Response(status=500, text="<html>", content_type="text/html")

    async with serving(at(AVATAR, fail)) as url:
        steps = await run_flows(url, WEB)
    assert [f.level for f in found(steps, *Level)] == [Level.OPERATION]


async def test_every_fault_of_a_reply_is_reported_and_unknown_fields_are_none() -> None:
    def answer(question: Question) -> web.StreamResponse:
        fields = {"pin": 1234, "max_callrate_in": 2048, "allow_guests": "True", "unheard_of": 1}
        return success(room(question, **fields))

    async with serving(at(SERVICE, answer)) as url:
        steps = await run_flows(url, WEB)
    texts = {f.text.partition(":")[0] for f in found(steps)}
    assert texts == {"Conference.pin", "Conference.max_callrate_in = 2048"}


async def test_a_breakout_room_without_breakout_is_doubtful_though_nothing_announced_it() -> None:
    async with serving(at(SERVICE, lambda q: success(room(q)))) as url:
        steps = await run_flows(url, ("breakout",))
    assert found(steps) == []
    assert Topic.BREAKOUT in [f.topic for f in found(steps, Level.WARNING)]


async def test_dialing_out_without_a_service_name_needs_no_certain_name() -> None:
    def answer(question: Question) -> web.StreamResponse:
        return success(room(question, name="Room"))

    async with serving(at(SERVICE, answer)) as url:
        steps = await run_flows(url, ("dial-out",))
    assert found(steps) == []


async def test_a_wrong_password_ends_the_test_at_the_first_request() -> None:
    asked: list[Question] = []

    def refuse(question: Question) -> web.StreamResponse:
        asked.append(question)
        return web.Response(status=401)

    async with serving(refuse) as url:
        with pytest.raises(UnauthorizedError):
            await run_flows(url)
    assert len(asked) == 1


DOUBTFUL: tuple[tuple[str, dict[str, Any]], ...] = (
    (SERVICE, {"allow_guests": True}),
    (SERVICE, {"guest_pin": "1234"}),
    (SERVICE, {"pin": "", "allow_guests": True}),
    (SERVICE, {"allow_guests": True, "pin": "1234#", "guest_pin": "56789"}),
    (SERVICE, {"view": "one_main_twelve_pips"}),
    (SERVICE, {"aliases": ["a"]}),
    (PARTICIPANT, {"private_custom_properties": {}}),
    (PARTICIPANT, {"reject": True}),
)


@pytest.mark.parametrize(("endpoint", "fields"), DOUBTFUL)
async def test_what_the_sources_do_not_agree_on_is_a_warning(
    endpoint: str, fields: dict[str, Any]
) -> None:
    def answer(question: Question) -> web.StreamResponse:
        if question.endpoint != endpoint:
            return sound(question)
        return success(room(question, **fields) if endpoint == SERVICE else fields)

    async with serving(answer) as url:
        steps = await run_flows(url, WEB)
    assert found(steps) == []
    assert found(steps, Level.WARNING)


async def test_a_gateway_may_have_another_name_for_the_same_question() -> None:
    def answer(question: Question) -> web.StreamResponse:
        needed = {"outgoing_protocol": "sip", "local_alias": "a", "remote_alias": "b"}
        named = room(question, name=f"rule:{question.number}", service_type="gateway", **needed)
        return success(named) if question.endpoint == SERVICE else sound(question)

    async with serving(answer) as url:
        steps = await run_flows(url, WEB)
    assert found(steps) == []
    assert [f.topic for f in found(steps, Level.WARNING)] == [Topic.REPEATABLE]
