"""Settings that cannot be used: each mistake at once, with its key."""

from collections.abc import Callable
from typing import Any

import pytest

Complaints = Callable[[dict[str, Any]], list[str]]


BREAKOUT = {"breakout_uuid": "3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc", "breakout_name": "X"}


def room(**fields: Any) -> dict[str, Any]:
    return {"rooms": {"sip:x@example.com": {"name": "X", **fields}}}


@pytest.mark.parametrize(
    ("settings", "key", "says"),
    [
        (room(service_type="confrence"), '"sip:x@example.com".service_type', "conference, lecture"),
        (room(service_type=3), '"sip:x@example.com".service_type', "3 is not one of"),
        (room(service_type=[]), '"sip:x@example.com".service_type', "a list is not one of"),
        (room(pni="1234"), '"sip:x@example.com".pni', "did you mean 'pin'"),
        (room(reason="x"), '"sip:x@example.com".reason', "is not a field of a service"),
        (room(pin=1234), '"sip:x@example.com".pin', "in quotes"),
        (room(pin="12"), '"sip:x@example.com".pin', "4 to 20 characters"),
        (room(pin="12ab"), '"sip:x@example.com".pin', "digits"),
        (room(allow_guests="True"), '"sip:x@example.com".allow_guests', "must be true or false"),
        (room(call_type="vidio"), '"sip:x@example.com".call_type', "did you mean 'video'"),
        (room(max_callrate_in=2048), '"sip:x@example.com".max_callrate_in', "128000"),
        (room(description="x" * 251), '"sip:x@example.com".description', "250"),
        (room(name=""), '"sip:x@example.com".name', "1 to 250 characters"),
        (room(view_="x"), '"sip:x@example.com".view_', "did you mean 'view'"),
        (room(host_view="x"), '"sip:x@example.com".host_view', "no field"),
        (
            room(breakout=True, breakout_rooms=True, **BREAKOUT),
            '"sip:x@example.com".breakout',
            "cannot have breakout rooms",
        ),
        (
            room(automatic_participants=[{"local_alias": "a"}]),
            '"sip:x@example.com".automatic_participants[0].',
            "is required",
        ),
        ({"rooms": {"x": {}}}, "rooms.x.name", "is required"),
        ({"rooms": {"x": "X"}}, "rooms.x", "expected a table"),
        ({"rooms": {"": {"name": "X"}}}, 'rooms.""', "is not an alias; write one such as"),
        (
            {"rooms": {"sip:@example.com": {"name": "X"}}},
            '"sip:@example.com"',
            "is not an alias; write",
        ),
        ({"room": {}}, "room", "did you mean 'rooms'"),
        ({"rooms": []}, "rooms", "should be a table"),
        ({"default_room": 3}, "default_room", "should be text"),
        ({"default_room": "Room {alias}"}, "default_room", "only {local_alias} is filled in"),
        ({"default_room": "Room {local_alias"}, "default_room", "without other braces"),
        ({"default_room": ""}, "default_room", "is empty"),
        ({"default_room": "x" * 240 + "{local_alias}" * 11}, "default_room", "is too long"),
    ],
)
def test_a_mistake_is_named_with_its_key(
    complaints: Complaints, settings: dict[str, Any], key: str, says: str
) -> None:
    (said,) = complaints(settings)
    assert key in said.split(": ")[0] + said.split(": ")[1]
    assert says in said


def test_a_pin_that_is_refused_is_not_repeated(complaints: Complaints) -> None:
    (said,) = complaints(room(pin="49x7"))
    assert "49x7" not in said


def test_two_spellings_of_one_alias_are_one_room_too_many(complaints: Complaints) -> None:
    said = complaints(
        {"rooms": {"sip:x@example.com": {"name": "A"}, "X@Example.com:5060": {"name": "B"}}}
    )
    assert said == [
        (
            'rooms."X@Example.com:5060": there is a room with the alias x@example.com already, in '
            'rooms."sip:x@example.com"'
        )
    ]


def test_all_mistakes_are_named_at_once(complaints: Complaints) -> None:
    said = complaints(
        {
            "default_room": "{who}",
            "rooms": {
                "a": {"name": "A", "pin": 1},
                "b": {"name": "B", "service_type": "x"},
                "c": {"name": "C"},
                "d": {"name": "D", "nome": "D"},
            },
        }
    )
    assert [line.split(": ")[0] for line in said] == [
        "rooms.a.pin",
        "rooms.b.service_type",
        "rooms.d.nome",
        "default_room",
    ]


def test_every_field_of_one_room_is_named_at_once(complaints: Complaints) -> None:
    fields = {
        "nmae": "X",
        "pin": "12",
        "allow_guest": True,
        "host_view": "bogus",
        "max_callrate_in": "1000",
        "reason": "x",
        "automatic_participants": [{"local_alias": "a"}],
    }
    said = complaints({"rooms": {"x": fields}})
    assert sorted(line.split(": ")[0] for line in said) == [
        "rooms.x.allow_guest",
        "rooms.x.automatic_participants[0].remote_alias",
        "rooms.x.host_view",
        "rooms.x.max_callrate_in",
        "rooms.x.name",
        "rooms.x.pin",
        "rooms.x.reason",
    ]
    assert "rooms.x.name: is required; 'nmae' is not a field, was it meant?" in said[3]
