"""What `pexpolicy check` says of rooms that are valid and that one should know of all the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Build = Callable[..., Any]
BREAKOUT = {
    "breakout": True,
    "breakout_uuid": "3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc",
    "breakout_name": "One",
}


def rooms(**fields: Any) -> dict[str, Any]:
    return {"rooms": {"x@example.com": {"name": "X", **fields}}}


def named(*aliases: str) -> dict[str, Any]:
    return {"rooms": {alias: {"name": alias} for alias in aliases}}


@pytest.mark.parametrize(
    "settings",
    [
        rooms(),
        rooms(pin="123456", guest_pin="567890", allow_guests=True),
        rooms(pin="12345#", guest_pin="567890#", allow_guests=True),
        named("board@example.com", "board@example.org", "board"),
        # Two aliases of one room.
        {
            "rooms": {
                "a@b": {"name": "A", "pin": "123456", "service_tag": ""},
                "b@b": {"pin": "123456", "name": "A"},
            }
        },
    ],
)
def test_these_rooms_are_nothing_to_warn_of(build: Build, settings: dict[str, Any]) -> None:
    assert build(settings).warnings() == []


X = 'rooms."x@example.com": '


@pytest.mark.parametrize(
    ("settings", "key", "says"),
    [
        (rooms(allow_guests=True), X, "guests are allowed without a Host PIN"),
        (rooms(pin="123456", guest_pin="567890"), X, "needs allow_guests = true"),
        (rooms(pin="123456", guest_pin="5678901", allow_guests=True), X, "one length"),
        (rooms(pin="12345#", guest_pin="5678901", allow_guests=True), X, "both end in #"),
        (rooms(pin="123456", guest_pin="123456", allow_guests=True), X, "must differ"),
        (rooms(pin=""), X, "an empty PIN"),
        (rooms(guest_pin="", pin="123456", allow_guests=True), X, "an empty guest PIN"),
        (rooms(view="nine_equal"), X, "not a layout"),
        ({"default_room": "Room of {local_alias}"}, "default_room: ", "a room of its own"),
        ({"default_room": "Room of {local_alias}"}, "default_room: ", "anybody who can dial in"),
        ({"default_room": "Lobby"}, "default_room: ", "one room"),
        (
            named("board@example.com", "sip:Board@example.org"),
            "rooms: ",
            "board@example.com, board@example.org",
        ),
        (
            {"rooms": {"a@b": {"name": "A", "pin": "123456"}, "b@b": {"name": "A"}}},
            'rooms."b@b".name: ',
            "a@b has the same name",
        ),
    ],
)
def test_a_doubtful_room_is_named(
    build: Build, settings: dict[str, Any], key: str, says: str
) -> None:
    found = build(settings).warnings()
    assert any(warning.startswith(key) and says in warning for warning in found), found
    assert "123456" not in "".join(found)


def test_a_pin_of_the_file_that_is_not_used_is_a_warning(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pins.csv").write_text("alias,pin,guest_pin\na,123456,\nb,123456,654321\nc,123456,\n")
    Path("rooms.csv").write_text("aliases,name,pin\nc,C,999999\n")
    tables = {
        "a": {"name": "A", "pin": "123456"},
        "b": {"name": "B", "pin": "", "allow_guests": True},
    }
    said = build({"rooms": tables, "pins": "pins.csv", "csv": "rooms.csv"}).warnings()
    unused = [line for line in said if line.startswith("pins: ")]
    assert [("rooms.b.pin" in line, "rooms.csv line 2" in line) for line in unused] == [
        (True, False),
        (False, True),
    ]
    assert "pins.csv line 3: " in unused[0]
    assert "123456" not in "".join(unused)


def test_a_breakout_room_has_the_name_of_its_main_room(build: Build) -> None:
    both = {"a": {"name": "A", "breakout_rooms": True}, "b": {"name": "A", **BREAKOUT}}
    assert not any("same name" in said for said in build({"rooms": both}).warnings())
