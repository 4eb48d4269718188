"""The flows carry on what a server answered, as a node does."""

from aiohttp import web

from tests.conformance.run_flows import run_flows
from tests.conformance.servers import (
    AVATAR,
    LOCATION,
    PARTICIPANT,
    SERVICE,
    Question,
    room,
    serving,
    sound,
    success,
)


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
        await run_flows(url, ("web join, v39",))
    for endpoint in (PARTICIPANT, LOCATION, AVATAR):
        assert seen[endpoint] == {("The Room", "a tag")}


async def test_a_transfer_names_the_service_before_it() -> None:
    asked: list[tuple[str, str]] = []

    def note(question: Question) -> web.StreamResponse:
        asked.append((question.get("local_alias"), question.get("previous_service_name")))
        return sound(question)

    async with serving(note) as url:
        await run_flows(url, ("transfer",))
    assert asked[:5] == [
        ("meet.bob", ""),
        ("lobby", "meet.bob"),
        ("lobby", "meet.bob"),
        ("lobby", "meet.bob"),
        ("meet.bob", "lobby"),
    ]
