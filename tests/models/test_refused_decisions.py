"""What the author of a decision reads after a mistake, without the secrets in it."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import (
    Avatar,
    Conference,
    Credentials,
    DecisionError,
    Directory,
    Gateway,
    Lecture,
    MediaLocation,
    ParticipantProperties,
    Redirect,
    Reject,
)
from pexpolicy.fields import AudioMix
from tests.support.secret_canaries import PIN


def conference(**fields: Any) -> Conference:
    return Conference(**{"name": "Room", "service_tag": "", **fields})


def gateway(**fields: Any) -> Gateway:
    needed = {"local_alias": "a@b", "remote_alias": "c@d", "outgoing_protocol": "sip"}
    return Gateway(**{"name": "Way", "service_tag": "", **needed, **fields})


NUMBERS = st.sampled_from([math.nan, math.inf, -math.inf])


def holding(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return structures that hold one of these values somewhere."""
    plain = (
        st.none() | st.integers(0, 9) | st.text(max_size=3) | st.floats(allow_nan=False, width=16)
    )
    return st.recursive(
        inner,
        lambda deeper: st.one_of(
            st.tuples(st.lists(plain, max_size=2), deeper).map(lambda two: [*two[0], two[1]]),
            st.tuples(st.lists(plain, max_size=2), deeper).map(lambda two: (two[1], *two[0])),
            st.tuples(st.dictionaries(st.text(max_size=3), plain, max_size=2), deeper).map(
                lambda two: {**two[0], "held": two[1]}
            ),
        ),
        max_leaves=3,
    )


def refused(make: Callable[[], object]) -> str:
    with pytest.raises(DecisionError) as error:
        make()
    return str(error.value)


Row = tuple[Callable[..., object], dict[str, Any], str]


WRONG_VALUES: list[Row] = [
    (conference, {"view": 7}, "view"),
    (conference, {"allow_guests": "true"}, "allow_guests"),
    (conference, {"participant_limit": "10"}, "participant_limit"),
    (conference, {"participant_limit": 2.5}, "participant_limit"),
    (conference, {"max_callrate_in": 1920}, "max_callrate_in"),
    (conference, {"name": ""}, "name"),
    (conference, {"name": "x" * 251}, "name"),
    (conference, {"crypto_mode": "maybe"}, "crypto_mode"),
    (conference, {"breakout_uuids": ["not a uuid"]}, "breakout_uuids"),
    (conference, {"automatic_participants": [{"local_alias": "a"}]}, "automatic_participants"),
    (gateway, {"outgoing_protocol": "h.323"}, "outgoing_protocol"),
    (Lecture, {"name": "L", "service_tag": "", "host_view": 1}, "host_view"),
    (ParticipantProperties, {"preauthenticated_role": "host"}, "preauthenticated_role"),
    (ParticipantProperties, {"rx_presentation_policy": "allow"}, "rx_presentation_policy"),
    (MediaLocation, {"location": ""}, "location"),
    (MediaLocation, {"location": "Oslo", "overflow_locations": "Rome"}, "overflow_locations"),
    (AudioMix, {"mix_name": "a.b.c.d"}, "mix_name"),
    (Redirect, {"new_alias": "bob@example.com"}, "new_alias"),
    (Reject, {"reject_reason": "x" * 251}, "reject_reason"),
    (Directory, {"entries": [{"alias": "a"}]}, "entries"),
    (Directory, {"entries": [], "ignore_local": "no"}, "ignore_local"),
]


@pytest.mark.parametrize(("make", "fields", "field"), WRONG_VALUES)
def test_a_wrong_value_names_its_field_and_what_infinity_would_do(
    make: Callable[..., object], fields: dict[str, Any], field: str
) -> None:
    said = refused(lambda: make(**fields))
    assert field in said
    assert "Infinity would" in said


SECRETS = [
    lambda: conference(pin=PIN + "x"),
    lambda: conference(pin=int(PIN)),
    lambda: conference(guest_pin=PIN * 3),
    lambda: conference(guest_pin=[PIN]),
    lambda: Credentials.from_result({"username": "u", "password": int(PIN)}),
    lambda: Credentials(username="u", password=PIN * 40),
]


@pytest.mark.parametrize("make", SECRETS)
def test_a_secret_does_not_stand_in_the_error(make: Callable[[], object]) -> None:
    assert PIN not in refused(make)


@pytest.mark.parametrize("pin", ["123", "1234 ", "12a4", "1234\n", "#1234", "1234##", "١٢٣٤"])
def test_a_pin_is_digits(pin: str) -> None:
    assert "pin" in refused(lambda: conference(pin=pin))


@pytest.mark.parametrize("image", ["text", None, bytearray(b"x"), 7])
def test_an_avatar_is_bytes(image: Any) -> None:
    assert "bytes" in refused(lambda: Avatar(image))


@given(value=holding(NUMBERS), field=st.sampled_from(["max_pixels_per_second", "custom", "pin"]))
def test_a_number_that_json_does_not_have_is_never_sent_as_null(value: Any, field: str) -> None:
    fields = {"name": "Room", "service_tag": "", field: value}
    with pytest.raises(DecisionError) as raised:
        Conference.from_result(fields)
    assert raised.value.refusal.field == field
    assert raised.value.refusal.rule.endswith("which is not a number of JSON")


def test_null_that_was_written_stays_null() -> None:
    made = Conference.from_result({"name": "null", "service_tag": "", "custom": [None, 1.5]})
    assert made.set_fields()["custom"] == [None, 1.5]


@pytest.mark.parametrize(("field", "is_optional"), [("participant_limit", True), ("name", False)])
def test_only_optional_fields_may_be_left_out_instead_of_null(
    field: str, is_optional: bool
) -> None:
    with pytest.raises(DecisionError) as refused:
        Conference.from_result({"name": "Room", "service_tag": "", field: None})
    assert ("leave the field out" in str(refused.value)) is is_optional
