"""Names of Infinity's own objects: where they are declared, an unknown one is never sent."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pexpolicy import Conference, DecisionError, MediaLocation, ParticipantProperties
from pexpolicy.endpoints.object_names import NameList, ObjectNames
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


async def test_names_of_a_kind_that_is_not_declared_are_not_checked(serving: Serve) -> None:
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


class Listing:
    """A source with these names."""

    def __init__(self, **names: list[str]) -> None:
        self.lists = {kind: NameList(frozenset(found), 0.0) for kind, found in names.items()}
        self.on_names: list[Callable[[], None]] = []

    def listed_names(self) -> Mapping[str, NameList]:
        return self.lists

    async def refresh_names(self) -> None:
        pass


def test_a_name_that_only_a_source_does_not_list_is_a_warning() -> None:
    names = ObjectNames({"locations": frozenset(["Oslo"])}, Listing(themes=["Blue"], locations=[]))
    assert names.check(conference(ivr_theme_name="Blue")).warnings == ()
    assert names.check(MediaLocation(location="Oslo")).warnings == ()
    (warning,) = names.check(conference(ivr_theme_name="Bleu")).warnings
    assert "'Bleu' is not one of the themes of Infinity" in warning
    assert names.check(conference(host_identity_provider_group="of no known kind")).warnings == ()
    with pytest.raises(DecisionError):
        names.check(MediaLocation(location="Bergen"))


def test_a_name_that_disappears_is_warned_of_once_with_its_places() -> None:
    source = Listing(themes=["Blue", "Green"])
    names = ObjectNames({}, source)
    for number in range(1200):
        names.record(("rooms", number), conference(ivr_theme_name="Blue"))
    said: list[dict[str, Any]] = []
    for listed in (["Blue", "Green"], ["Blues", "Green"], ["Blues"], ["Blue"], []):
        source.lists["themes"] = NameList(frozenset(listed), 0.0)
        names.warn_of_new(lambda _, **fields: said.append(fields))
    assert [one["uses"] for one in said] == [1200, 1200]
    assert "did you mean 'Blues'?" in said[0]["problem"]
    assert "is not one of the themes" in said[1]["problem"]
    assert said[0]["at"][:2] == ["rooms.0.ivr_theme_name", "rooms.1.ivr_theme_name"]


def test_a_name_that_another_platform_has_is_not_unknown() -> None:
    east, west = ObjectNames({}, Listing(themes=["Blue"])), ObjectNames({}, Listing(themes=["Red"]))
    for names in (east, west):
        for theme in ("Blue", "Red", "Rose"):
            names.record((theme,), conference(ivr_theme_name=theme), (east, west))
    assert [[one.name for one in names.unknown()] for names in (east, west)] == [["Rose"], ["Rose"]]


def test_a_thousand_rooms_and_200_themes_are_checked_in_less_than_a_second() -> None:
    names = ObjectNames({}, Listing(themes=[f"Theme {n} of Oslo" for n in range(200)]))
    began = time.thread_time()
    for number in range(1000):
        names.record(("rooms", number), conference(ivr_theme_name=f"Theme {number} of Osl"))
    texts = [one.text for one in names.unknown()]
    assert (len(texts), "did you mean" in texts[0]) == (1000, True)
    assert time.thread_time() - began < 1.0
