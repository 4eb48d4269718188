"""The room of every alias that has none, where the settings ask for it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import Alias

Build = Callable[..., Any]
DEFAULT = "Default Room - {local_alias}"


def test_an_unknown_alias_gets_a_room_that_is_named_after_it(build: Build) -> None:
    asked = build({"default_room": DEFAULT}).ask("sip:Whoever@Example.com:5060;transport=tls")
    assert asked.result == {
        "name": "Default Room - whoever@example.com",
        "service_tag": "default-room",
        "service_type": "conference",
    }


@given(st.text(min_size=1, max_size=400) | st.integers(200, 300).map("a".__mul__))
def test_whatever_is_dialed_gets_a_room_of_its_own_or_none_and_never_a_fault(
    build: Build, dialed: str
) -> None:
    alias = Alias(dialed)
    asked = build({"default_room": DEFAULT}).ask(dialed)
    name = f"Default Room - {alias}"
    if not alias.user or len(name) > 250:
        assert (asked.step, asked.result) == ("abstained", None)
    else:
        assert (asked.step, asked.result["name"]) == ("decided", name)


def test_text_that_looks_like_the_placeholder_is_not_filled_in_again(build: Build) -> None:
    asked = build({"default_room": DEFAULT}).ask("{local_alias}{0}%s")
    assert asked.result["name"] == "Default Room - {local_alias}{0}%s"


def test_a_name_without_the_placeholder_is_one_room_for_all(build: Build) -> None:
    rooms = build({"default_room": "Lobby"})
    assert rooms.ask("one").result == rooms.ask("two@example.com").result


def test_an_alias_with_a_room_gets_that_room(build: Build) -> None:
    rooms = build({"default_room": DEFAULT, "rooms": {"sales@example.com": {"name": "Sales"}}})
    assert rooms.ask("sales").result["name"] == "Sales"
    assert rooms.ask("sales@example.org").result["name"] == "Default Room - sales@example.org"


@pytest.mark.parametrize("direction", ["non_dial", "dial_out", "NON_DIAL"])
def test_probes_and_calls_that_infinity_places_get_no_default_room(
    build: Build, direction: str
) -> None:
    assert build({"default_room": DEFAULT}).ask("whoever", direction).step == "abstained"


def test_a_bare_name_that_two_rooms_share_gets_no_default_room(build: Build) -> None:
    rooms = build(
        {
            "default_room": DEFAULT,
            "rooms": {"board@example.com": {"name": "A"}, "board@example.org": {"name": "B"}},
        }
    )
    assert rooms.ask("board").step == "abstained"
    assert rooms.ask("board@example.net").step == "decided"
