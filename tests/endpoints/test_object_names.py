"""Names of Infinity's own objects: where they are declared, an unknown one is never sent."""

from typing import Any

import pytest

from pexpolicy import Conference, DecisionError, MediaLocation, ParticipantProperties
from pexpolicy.endpoints.object_names import ObjectNames
from tests.support import wire
from tests.support.fake_plugins import Serve, always, plugin

INFINITY = {"locations": ["Oslo", "New York"], "themes": ["Blue"]}


def conference(**fields: Any) -> Conference:
    return Conference(name="Room", service_tag="", **fields)


def participant(location: str) -> dict[str, str]:
    return {
        "local_alias": "a",
        "remote_alias": "b",
        "protocol": "sip",
        "role": "guest",
        "system_location_name": location,
    }


@pytest.mark.parametrize(
    ("endpoint", "decision", "guess"),
    [
        ("media_location", MediaLocation(location="Olso"), "Oslo"),
        (
            "media_location",
            MediaLocation(location="Oslo", overflow_locations=["New york"]),
            "New York",
        ),
        ("media_location", {"location": "oslo"}, "Oslo"),
        ("service_configuration", conference(ivr_theme_name="Bleu"), "Blue"),
        (
            "service_configuration",
            conference(automatic_participants=[participant("Oslow")]),
            "Oslo",
        ),
    ],
)
async def test_an_undeclared_name_is_refused_with_the_likely_one(
    serving: Serve, endpoint: str, decision: object, guess: str
) -> None:
    classes = {"toy": plugin(**{endpoint: always(decision)})}
    async with serving(classes, infinity=INFINITY) as server:
        reply = await server.ask(wire.TARGETS[endpoint])
        assert reply.json["decided_by"] == "default"
        assert server.steps() == [("toy", "invalid")]
        assert f"did you mean {guess!r}?" in server.details()
        assert "[infinity]" in server.details()


@pytest.mark.parametrize(
    ("endpoint", "decision"),
    [
        ("media_location", MediaLocation(location="Oslo", overflow_locations=["New York"])),
        ("service_configuration", conference(ivr_theme_name="Blue")),
        ("service_configuration", conference(automatic_participants=[participant("Oslo")])),
    ],
)
async def test_declared_names_are_sent(serving: Serve, endpoint: str, decision: object) -> None:
    classes = {"toy": plugin(**{endpoint: always(decision)})}
    async with serving(classes, infinity=INFINITY) as server:
        assert (await server.ask(wire.TARGETS[endpoint])).json["decided_by"] == "toy"


def test_a_name_is_checked_where_another_decision_had_a_field_of_this_name() -> None:
    names = ObjectNames({"locations": frozenset(["Oslo"])})
    names.check(ParticipantProperties.from_result({"location": "Bergen"}))
    with pytest.raises(DecisionError, match="Bergen"):
        names.check(MediaLocation(location="Bergen"))


async def test_names_of_a_kind_that_is_not_declared_are_not_checked(
    serving: Serve,
) -> None:
    classes = {"toy": plugin(media_location=always(MediaLocation(location="Anywhere")))}
    for infinity in ({}, {"themes": ["Blue"]}):
        async with serving(classes, infinity=infinity) as server:
            assert (await server.ask(wire.LOCATION)).result == {"location": "Anywhere"}


def test_an_unknown_name_is_not_compared_with_thousands_in_a_call() -> None:
    for count, guess in ((300, "; did you mean 'Theme 299'?"), (5000, "")):
        names = ObjectNames({"themes": frozenset(f"Theme {n}" for n in range(count))})
        room = Conference(name="Room", service_tag="", ivr_theme_name="Thema 299")
        with pytest.raises(DecisionError) as caught:
            names.check(room)
        assert caught.value.refusal.rule == (
            f"'Thema 299' is not listed under [infinity] themes{guess}"
        )
