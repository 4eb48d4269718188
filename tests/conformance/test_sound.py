"""Servers that keep the contract pass, however they are made."""

import pytest
from aiohttp import web

from pexpolicy.config.outgoing import basic
from pexpolicy.conformance.findings import Level, Topic
from tests.conformance.reference_server import lived_in
from tests.conformance.run_flows import found, run_flows
from tests.conformance.servers import (
    DIRECTORY,
    SERVICE,
    Answer,
    Question,
    go_on,
    not_found,
    room,
    says,
    serving,
    sound,
    success,
)
from tests.support import live_server


def official(question: Question) -> web.StreamResponse:
    """As a vendor's example: patterns lead to rooms and gateways; all else is handed back."""
    alias = question.get("local_alias").removeprefix("sip:").partition("@")[0]
    if question.endpoint == SERVICE and question.get("call_direction") == "dial_in":
        if alias.startswith("meet."):
            named = room(question, name=alias, pin="1234", guest_pin="", call_tag="x")
            return success(named, "continue")
        if alias == "lobby":
            caller = question.get("remote_alias")
            needed = {"outgoing_protocol": "sip", "local_alias": caller, "remote_alias": "sip:100"}
            return success(
                room(question, name=f"to 100: {caller}", service_type="gateway", **needed)
            )
    return says({"status": "fail", "action": "continue", "result": {}}, 404)


def continues(_: Question) -> web.StreamResponse:
    return success({}, "continue")


SERVERS: dict[str, Answer] = {
    "404 to everything": not_found,
    "continue to everything": continues,
    "continue without a result": go_on,
    "rooms, pictures, a directory": sound,
    "patterns and gateways": official,
    "every kind of decision": lived_in,
}


@pytest.mark.parametrize("name", SERVERS)
async def test_a_server_with(name: str) -> None:
    async with serving(SERVERS[name]) as url:
        steps = await run_flows(url)
    assert found(steps) == []


@pytest.mark.parametrize(
    "name", ["404 to everything", "rooms, pictures, a directory", "every kind of decision"]
)
async def test_nothing_is_doubtful_of_a_server_with(name: str) -> None:
    async with serving(SERVERS[name]) as url:
        steps = await run_flows(url)
    assert found(steps, Level.WARNING) == []


async def test_a_server_that_reads_no_long_queries_is_doubtful_only() -> None:
    async with serving(not_found, max_line=8190) as url:
        steps = await run_flows(url)
    assert found(steps) == []
    assert [f.topic for f in found(steps, Level.WARNING)] == [Topic.STATUS]


def guarded(password: str) -> Answer:
    def answer(question: Question) -> web.StreamResponse:
        if question.request.headers.get("Authorization") != basic("pexip", password):
            return web.Response(status=401)
        return sound(question)

    return answer


async def test_credentials_are_sent_and_a_client_without_any_is_refused() -> None:
    async with serving(guarded("sésame")) as url:
        steps = await run_flows(url, authorization=basic("pexip", "sésame"))
    assert found(steps) == found(steps, Level.WARNING) == []
    assert any(played.step == "no credentials" for played in steps)


async def test_a_server_that_answers_without_credentials_is_doubtful() -> None:
    async with serving(sound) as url:
        steps = await run_flows(url, ("web join, v39",), authorization=basic("pexip", "sesame"))
    assert [f.topic for f in found(steps, Level.WARNING)] == [Topic.AUTHENTICATION]


@pytest.mark.parametrize("order", ["alias", "description"])
async def test_a_directory_may_be_sorted_by_any_of_its_keys(order: str) -> None:
    people = [
        {"alias": "b@example.com", "description": "Åse", "username": ""},
        {"alias": "C@example.com", "description": "bjørn", "username": ""},
        {"alias": "a@example.com", "description": "Cato", "username": ""},
    ]
    people.sort(key=lambda entry: entry[order].casefold().replace("å", "a"))

    def answer(question: Question) -> web.StreamResponse:
        if question.endpoint != DIRECTORY:
            return sound(question)
        return success(people[: int(question.get("limit"))])

    async with serving(answer) as url:
        assert found(await run_flows(url, ("directory",))) == []


async def test_our_own_server_passes_without_a_doubt(running_server: live_server.Running) -> None:
    steps = await run_flows(running_server.url)
    assert len(steps) > 90
    assert found(steps) == found(steps, Level.WARNING) == []
