"""Which room a dialed alias meets."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

Build = Callable[..., Any]

TABLE = {
    "sip:engineering@example.com": {"name": "Engineering Room", "service_tag": "engineering-room"},
    "lobby": {"name": "Lobby"},
    "sip:+4712345678@example.com": {"name": "By number"},
    "board@example.com": {"name": "Board"},
    "board@example.org": {"name": "Other board"},
    "team@[2001:db8::1]": {"name": "By address"},
    "møterom@eksempel.example": {"name": "Møterom"},
    "hall@example.com": {"name": "Hall of example.com"},
    "hall": {"name": "Hall"},
}

USERS = st.text("abcxyz0189_+éßø", min_size=1, max_size=12)
"""No separators: in a `tel:` alias they mean nothing, so they would not tell two users apart."""
HOSTS = st.from_regex(r"[a-z]{1,8}(\.[a-z]{2,5}){1,2}", fullmatch=True)
SCHEMES = st.sampled_from(["", "sip:", "SIP:", "sips:", "h323:", "H323:", "tel:"])
PORTS = st.sampled_from(["", ":5060", ":5061"])
PARAMETERS = st.sampled_from(["", ";transport=tls", ";a=1;b=2", "?subject=x"])
BLANKS = st.sampled_from(["", " ", "  \t"])


@st.composite
def spellings(draw: st.DrawFn, user: str, host: str) -> str:
    """An alias as one of the many systems that call may write it."""
    written = f"{user}@{host}{draw(PORTS)}" if host else user
    letters = draw(st.sampled_from([written, _swapped(written)]))
    inside: str = draw(SCHEMES) + letters + draw(PARAMETERS)
    return draw(BLANKS) + inside + draw(BLANKS)


def _swapped(text: str) -> str:
    """Upper and lower case exchanged, in ASCII: elsewhere there is no way back."""
    return "".join(c.swapcase() if c.isascii() else c for c in text)


@given(st.data(), USERS, HOSTS)
def test_every_spelling_of_an_alias_meets_the_room_of_that_alias(
    build: Build, data: st.DataObject, user: str, host: str
) -> None:
    in_config = data.draw(spellings(user, host))
    dialed = data.draw(spellings(user, data.draw(st.sampled_from([host, ""]))))
    rooms = build({"rooms": {in_config: {"name": "The room"}}})
    assert rooms.ask(dialed).result["name"] == "The room"


@given(st.data(), USERS, HOSTS, HOSTS)
def test_a_room_with_a_host_is_not_met_at_another_host(
    build: Build, data: st.DataObject, user: str, host: str, other: str
) -> None:
    rooms = build({"rooms": {f"{user}@{host}": {"name": "The room"}}})
    dialed = data.draw(spellings(user, other))
    assert (rooms.ask(dialed).result is not None) == (host == other)


@given(st.data(), USERS, HOSTS)
def test_a_room_without_a_host_is_met_at_every_host(
    build: Build, data: st.DataObject, user: str, host: str
) -> None:
    rooms = build({"rooms": {user: {"name": "The room"}}})
    assert rooms.ask(data.draw(spellings(user, host))).result["name"] == "The room"


@given(USERS, st.lists(HOSTS, min_size=2, max_size=5, unique=True))
def test_a_bare_name_that_several_rooms_share_meets_none_and_each_alias_its_own(
    build: Build, user: str, hosts: list[str]
) -> None:
    rooms = build({"rooms": {f"{user}@{host}": {"name": host} for host in hosts}})
    assert rooms.ask(user).step == "abstained"
    assert [rooms.ask(f"{user}@{host}").result["name"] for host in hosts] == hosts


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("engineering", "Engineering Room"),
        ("sip:Engineering@Example.com:5060;transport=tls", "Engineering Room"),
        ("lobby@anywhere.example", "Lobby"),
        ("tel:+47 12-34.56(78)", "By number"),
        ("sip:+4712345678@example.com;user=phone", "By number"),
        ("team@[2001:db8::1]:5060", "By address"),
        ("team@[2001:db8::2]", "By address"),
        ("sip:lobby@10.144.101.21;transport=tls", "Lobby"),
        ("MØTEROM@eksempel.example", "Møterom"),
        ("hall@example.com", "Hall of example.com"),
        ("hall@example.org", "Hall"),
        ("hall", "Hall"),
        ("board@example.org", "Other board"),
    ],
)
def test_these_aliases_meet_these_rooms(build: Build, alias: str, name: str) -> None:
    asked = build({"rooms": TABLE}).ask(alias)
    assert asked.result["name"] == name
    assert asked.decided_by == "rooms"


@pytest.mark.parametrize(
    "alias", ["engineering@example.org", "4712345678", "board", "engineer", "lobby2", "<lobby>"]
)
def test_these_aliases_meet_no_room_and_are_left_to_infinity(build: Build, alias: str) -> None:
    asked = build({"rooms": TABLE}).ask(alias)
    assert asked.step == "abstained"
    assert asked.decided_by == "default"
    assert asked.result is None


@pytest.mark.parametrize("alias", [None, "", "   ", "sip:", "sip:@example.com", "@"])
def test_a_request_without_an_alias_is_left_to_infinity(build: Build, alias: str | None) -> None:
    assert build({"rooms": TABLE, "default_room": "{local_alias}"}).ask(alias).step == "abstained"


def test_a_probe_meets_no_room(build: Build) -> None:
    assert build({"rooms": TABLE}).ask("engineering", "non_dial").step == "abstained"


def test_a_breakout_room_is_not_answered_with_its_main_room(build: Build) -> None:
    rooms = build({"rooms": TABLE, "default_room": "{local_alias}"})
    uuid = "0f7a3a1c-0d5e-4b6e-9b57-0d1a2b3c4d5e"
    assert rooms.ask("engineering", breakout_uuid=uuid).step == "abstained"
    assert rooms.ask("engineering", breakout_uuid="").step == "decided"


def test_a_call_that_infinity_places_gets_the_room_it_is_placed_from(build: Build) -> None:
    asked = build({"rooms": TABLE}).ask("engineering", "dial_out", service_name="Engineering Room")
    assert asked.result["name"] == "Engineering Room"
    assert asked.warnings == ()


def test_a_call_placed_from_another_service_is_answered_with_a_warning(build: Build) -> None:
    asked = build({"rooms": TABLE}).ask("engineering", "dial_out", service_name="Else")
    assert "the running service" in asked.warnings[0]
