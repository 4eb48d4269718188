"""Servers that keep the contract pass, however they are made."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pexpolicy.probe.findings import Level, Topic
from pexpolicy.probe.wire import basic
from tests.probe.asking import found, play
from tests.probe.servers import (
    AVATAR,
    DIRECTORY,
    LOCATION,
    PARTICIPANT,
    REGISTRATION,
    ROOM_UUID,
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

ROOT = Path(__file__).parents[2]


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


def participant(question: Question) -> web.StreamResponse:
    if question.get("protocol") == "h323":
        return success({"reject_reason": "not from here"}, "reject")
    name = question.get("remote_display_name") or None
    return success({"remote_display_name": name and f"{name} | Army", "bypass_lock": True})


def service(question: Question) -> web.StreamResponse:
    if question.get("local_alias") == "lobby":
        return success({"new_alias": "sip:reception@example.com"}, "redirect")
    if question.get("protocol") == "h323":
        return success(action="reject", _reason="no number")
    named = room(question, breakout_rooms=True, breakout_uuids=[ROOM_UUID])
    named["pin"] = "1234" if question.get("protocol") == "sip" else "123456"
    return success(named, dennis_version="1.0")


def breakout(question: Question) -> web.StreamResponse:
    if question.get("breakout_uuid") != ROOM_UUID:
        return go_on()
    block = {"breakout": True, "breakout_uuid": ROOM_UUID, "breakout_name": "One"}
    return success(room(question, **block))


def lived_in(question: Question) -> web.StreamResponse:
    """Every kind of decision, and breakout rooms."""
    if question.endpoint == PARTICIPANT:
        return participant(question)
    if question.endpoint == REGISTRATION and question.get("protocol") == "h323":
        return success({}, "reject")
    if question.endpoint != SERVICE or question.get("call_direction") != "dial_in":
        return sound(question)
    if not question.get("local_alias"):
        return go_on()
    return breakout(question) if question.get("breakout_uuid") else service(question)


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
        steps = await play(url)
    assert found(steps) == []


@pytest.mark.parametrize(
    "name", ["404 to everything", "rooms, pictures, a directory", "every kind of decision"]
)
async def test_nothing_is_doubtful_of_a_server_with(name: str) -> None:
    async with serving(SERVERS[name]) as url:
        steps = await play(url)
    assert found(steps, Level.WARNING) == []


async def test_breakout_rooms_are_followed_once() -> None:
    asked: list[str] = []

    def note(question: Question) -> web.StreamResponse:
        asked.append(question.get("breakout_uuid"))
        return lived_in(question)

    async with serving(note) as url:
        steps = await play(url)
    assert asked.count(ROOM_UUID) == 1
    assert any(played.step == "service: breakout room 1" for played in steps)


async def test_later_requests_carry_the_name_and_tag_of_the_service() -> None:
    seen: dict[str, set[tuple[str, str]]] = {}

    def note(question: Question) -> web.StreamResponse:
        pair = (question.get("service_name"), question.get("service_tag"))
        seen.setdefault(question.endpoint, set()).add(pair)
        return (
            success(room(question, name="The Room", service_tag="a tag"))
            if (question.endpoint == SERVICE)
            else sound(question)
        )

    async with serving(note) as url:
        await play(url, ("web join, v39",))
    for endpoint in (PARTICIPANT, LOCATION, AVATAR):
        assert seen[endpoint] == {("The Room", "a tag")}


async def test_a_transfer_names_the_service_before_it() -> None:
    asked: list[tuple[str, str]] = []

    def note(question: Question) -> web.StreamResponse:
        asked.append((question.get("local_alias"), question.get("previous_service_name")))
        return sound(question)

    async with serving(note) as url:
        await play(url, ("transfer",))
    assert asked[:5] == [
        ("meet.bob", ""),
        ("lobby", "meet.bob"),
        ("lobby", "meet.bob"),
        ("lobby", "meet.bob"),
        ("meet.bob", "lobby"),
    ]


async def test_a_server_that_reads_no_long_queries_is_doubtful_only() -> None:
    async with serving(not_found, max_line=8190) as url:
        steps = await play(url)
    assert found(steps) == []
    assert [f.topic for f in found(steps, Level.WARNING)] == [Topic.STATUS]


def guarded(password: str) -> Answer:
    def answer(question: Question) -> web.StreamResponse:
        if question.request.headers.get("Authorization") != basic("pexip", password):
            return web.Response(status=401)
        return sound(question)

    return answer


async def test_credentials_are_sent_and_whoever_has_none_is_turned_away() -> None:
    async with serving(guarded("sésame")) as url:
        steps = await play(url, authorization=basic("pexip", "sésame"))
    assert found(steps) == found(steps, Level.WARNING) == []
    assert any(played.step == "no credentials" for played in steps)


async def test_a_server_that_answers_without_credentials_is_doubtful() -> None:
    async with serving(sound) as url:
        steps = await play(url, ("web join, v39",), authorization=basic("pexip", "sesame"))
    assert [f.topic for f in found(steps, Level.WARNING)] == [Topic.AUTHENTICATION]


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
    ("a field that nobody knows", SERVICE, {"aliases": ["a"]}),
    ("credentials that are empty", REGISTRATION, {"username": "", "password": ""}),
    ("an undocumented property", PARTICIPANT, {"private_custom_properties": {}}),
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
        steps = await play(url, ("web join, v39", "registration"))
    alike = {Topic.CREDENTIALS} if endpoint == REGISTRATION else set()
    assert {f.topic for f in found(steps)} <= alike
    assert found(steps, Level.WARNING)


async def test_a_gateway_may_have_another_name_for_the_same_question() -> None:
    def answer(question: Question) -> web.StreamResponse:
        needed = {"outgoing_protocol": "sip", "local_alias": "a", "remote_alias": "b"}
        named = room(question, name=f"rule:{question.number}", service_type="gateway", **needed)
        return success(named) if question.endpoint == SERVICE else sound(question)

    async with serving(answer) as url:
        steps = await play(url, ("web join, v39",))
    assert found(steps) == []
    assert [f.topic for f in found(steps, Level.WARNING)] == [Topic.REPEATABLE]


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
        assert found(await play(url, ("directory",))) == []


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[str]:
    """Our own server with the configuration that is shipped, started by its command line."""
    command = [
        sys.executable,
        "-m",
        "pexpolicy",
        "serve",
        "--config",
        str(ROOT / "config.toml"),
        "--port",
        "0",
    ]
    with (tmp_path / "audit").open("wb") as audit:
        server = subprocess.Popen(command, stdout=audit, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            lines = iter(server.stderr.readline, "")
            urls = (re.search(r"http://\S+", line) for line in lines if "answers on" in line)
            url = next(urls, None)
            assert url is not None, "the server did not start"
            yield url[0]
        finally:
            server.terminate()
            server.communicate(timeout=10)


async def test_our_own_server_passes_without_a_doubt(ours: str) -> None:
    steps = await play(ours)
    assert len(steps) > 90
    assert found(steps) == found(steps, Level.WARNING) == []
