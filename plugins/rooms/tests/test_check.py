"""What `pexpolicy check` says of rooms that are valid and that one should know of all the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Build = Callable[..., Any]


def warnings(build: Build, **fields: Any) -> list[str]:
    said: list[str] = build({"rooms": {"x@example.com": {"name": "X", **fields}}}).warnings()
    return said


def test_a_plain_room_is_nothing_to_warn_of(build: Build) -> None:
    assert warnings(build) == []


def test_a_room_with_pins_that_fit_is_nothing_to_warn_of(build: Build) -> None:
    assert warnings(build, pin="123456", guest_pin="567890", allow_guests=True) == []
    assert warnings(build, pin="12345#", guest_pin="567890#", allow_guests=True) == []


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"allow_guests": True}, "guests are allowed without a Host PIN"),
        ({"pin": "123456", "guest_pin": "567890"}, "needs allow_guests = true"),
        ({"pin": "123456", "guest_pin": "5678901", "allow_guests": True}, "one length"),
        ({"pin": "12345#", "guest_pin": "5678901", "allow_guests": True}, "both end in #"),
        ({"pin": "123456", "guest_pin": "123456", "allow_guests": True}, "must differ"),
        ({"pin": ""}, "an empty PIN"),
        ({"guest_pin": "", "pin": "123456", "allow_guests": True}, "an empty guest PIN"),
        ({"view": "nine_equal"}, "not a layout"),
    ],
)
def test_what_may_void_the_answer_is_said_of_the_room(
    build: Build, fields: dict[str, Any], says: str
) -> None:
    said = warnings(build, **fields)
    assert any(line.startswith('rooms."x@example.com": ') and says in line for line in said)


def test_a_pin_of_the_file_that_is_not_used_is_a_warning(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pins.csv").write_text("alias,pin,guest_pin\na,123456,\nb,123456,654321\nc,123456,\n")
    Path("rooms.csv").write_text("aliases,name,pin\nc,C,999999\n")
    rooms = {
        "a": {"name": "A", "pin": "123456"},
        "b": {"name": "B", "pin": "", "allow_guests": True},
    }
    said = build({"rooms": rooms, "pins": "pins.csv", "csv": "rooms.csv"}).warnings()
    unused = [line for line in said if line.startswith("pins: ")]
    assert [
        line.partition("its pin is not used, as the room has its own in ")[2] for line in unused
    ] == [
        "rooms.b.pin: keep one of both",
        "rooms.csv line 2: keep one of both",
    ]
    assert "pins.csv line 3: " in unused[0]
    assert "123456" not in "".join(unused)


def test_a_default_room_is_a_warning(build: Build) -> None:
    (said,) = build({"default_room": "Default Room - {local_alias}"}).warnings()
    assert said.startswith("default_room: ")
    assert "anybody who can dial in" in said
    assert "a room of its own" in said


def test_one_default_room_for_all_is_not_called_a_room_of_its_own(build: Build) -> None:
    (said,) = build({"default_room": "Lobby"}).warnings()
    assert "one room" in said


def test_a_bare_name_that_meets_no_room_is_said_with_the_rooms_that_share_it(build: Build) -> None:
    (said,) = build(
        {"rooms": {"board@example.com": {"name": "A"}, "sip:Board@example.org": {"name": "B"}}}
    ).warnings()
    assert said.startswith("rooms: ")
    assert "board@example.com, board@example.org" in said


def test_a_bare_name_with_a_room_of_its_own_is_not_ambiguous(build: Build) -> None:
    names = ("board@example.com", "board@example.org", "board")
    assert build({"rooms": {name: {"name": name} for name in names}}).warnings() == []


def test_every_warning_comes_with_all_others(build: Build) -> None:
    said = build(
        {
            "default_room": "{local_alias}",
            "rooms": {
                "board@example.com": {"name": "A", "allow_guests": True},
                "board@example.org": {"name": "B", "pin": ""},
            },
        }
    ).warnings()
    assert len(said) == 4


def test_two_rooms_of_one_name_and_other_settings_are_reported(build: Build) -> None:
    rooms = {"a@example.com": {"name": "A", "pin": "123456"}, "b@example.com": {"name": "A"}}
    (said,) = build({"rooms": rooms}).warnings()
    assert said.startswith('rooms."b@example.com".name: a@example.com has the same name')
    assert "123456" not in said


def test_two_aliases_of_one_room_are_nothing_to_warn_of(build: Build) -> None:
    rooms = {
        "a@example.com": {"name": "A", "pin": "123456", "service_tag": ""},
        "b@example.com": {"pin": "123456", "name": "A"},
    }
    assert build({"rooms": rooms}).warnings() == []


def test_a_breakout_room_has_the_name_of_its_main_room(build: Build) -> None:
    breakout = {
        "breakout": True,
        "breakout_uuid": "3e4e1bd9-7439-4c53-8ca2-6ef1a8e34cfc",
        "breakout_name": "One",
    }
    rooms = {"a": {"name": "A", "breakout_rooms": True}, "b": {"name": "A", **breakout}}
    assert not any("same name" in said for said in build({"rooms": rooms}).warnings())
