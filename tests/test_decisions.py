"""Decisions: what their author reads after a mistake, and what cannot go wrong behind them."""

import enum
import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import (
    AudioMix,
    AutomaticParticipant,
    Avatar,
    Conference,
    Continue,
    Credentials,
    DecisionError,
    Directory,
    DirectoryEntry,
    Gateway,
    Lecture,
    MediaLocation,
    MediaPlayback,
    ParticipantProperties,
    Redirect,
    Reject,
    TestCall,
    VirtualReception,
)

UUID = "11111111-2222-3333-4444-555555555555"


def conference(**fields: Any) -> Conference:
    return Conference(**{"name": "Room", "service_tag": "", **fields})


def gateway(**fields: Any) -> Gateway:
    needed = {"local_alias": "a@b", "remote_alias": "c@d", "outgoing_protocol": "sip"}
    return Gateway(**{"name": "Way", "service_tag": "", **needed, **fields})


def refused(make: Callable[[], object]) -> str:
    with pytest.raises(DecisionError) as error:
        make()
    return str(error.value)


def test_only_what_was_set_is_sent() -> None:
    assert conference(view="four_mains_zero_pips", locked=False).set_fields() == {
        "name": "Room",
        "service_tag": "",
        "service_type": "conference",
        "view": "four_mains_zero_pips",
        "locked": False,
    }
    assert ParticipantProperties().set_fields() == {}
    assert ParticipantProperties(preauthenticated_role=None).set_fields() == {
        "preauthenticated_role": None
    }


@pytest.mark.parametrize(
    ("decision", "service_type"),
    [
        (conference(), "conference"),
        (Lecture(name="L", service_tag=""), "lecture"),
        (gateway(), "gateway"),
        (VirtualReception(name="V", service_tag=""), "two_stage_dialing"),
        (MediaPlayback(name="M", service_tag="", media_playlist_name="Ads"), "media_playback"),
        (TestCall(name="T", service_tag=""), "test_call"),
    ],
)
def test_each_kind_of_service_says_its_type_by_itself(
    decision: Conference, service_type: str
) -> None:
    assert decision.set_fields()["service_type"] == service_type


Row = tuple[Callable[..., object], dict[str, Any], str]

MISSPELT: list[tuple[Callable[..., object], dict[str, Any], str, str]] = [
    (conference, {"guest_pn": "1234"}, "guest_pn", "guest_pin"),
    (conference, {"allow_guest": True}, "allow_guest", "allow_guests"),
    (Conference, {"nane": "A", "service_tag": ""}, "nane", "name"),
    (Conference, {"name": "A", "servicetag": ""}, "servicetag", "service_tag"),
    (MediaLocation, {"locaton": "Oslo"}, "locaton", "location"),
    (ParticipantProperties, {"spotligth": 1}, "spotligth", "spotlight"),
    (DirectoryEntry, {"alias": "a", "descripton": "A"}, "descripton", "description"),
    (Reject, {"reject_raeson": "no"}, "reject_raeson", "reject_reason"),
    (Redirect, {"new_alia": "sip:a@b"}, "new_alia", "new_alias"),
    (Credentials, {"user_name": "u", "password": "p"}, "user_name", "username"),
]


@pytest.mark.parametrize(("make", "fields", "wrong", "right"), MISSPELT)
def test_a_field_that_does_not_exist_is_named_with_the_likely_one(
    make: Callable[..., object], fields: dict[str, Any], wrong: str, right: str
) -> None:
    said = refused(lambda: make(**fields))
    assert wrong in said
    assert re.search(rf"\b{right}\b", said)


WRONG_VALUES: list[Row] = [
    (conference, {"view": 7}, "view"),
    (conference, {"allow_guests": "true"}, "allow_guests"),
    (conference, {"allow_guests": 1}, "allow_guests"),
    (conference, {"participant_limit": "10"}, "participant_limit"),
    (conference, {"participant_limit": -1}, "participant_limit"),
    (conference, {"participant_limit": True}, "participant_limit"),
    (conference, {"participant_limit": 2.5}, "participant_limit"),
    (conference, {"max_callrate_in": 1920}, "max_callrate_in"),
    (conference, {"name": ""}, "name"),
    (conference, {"name": None}, "name"),
    (conference, {"name": "x" * 251}, "name"),
    (conference, {"description": "x" * 251}, "description"),
    (conference, {"crypto_mode": "maybe"}, "crypto_mode"),
    (conference, {"breakout_uuids": ["not a uuid"]}, "breakout_uuids"),
    (conference, {"automatic_participants": [{"local_alias": "a"}]}, "automatic_participants"),
    (gateway, {"outgoing_protocol": "h.323"}, "outgoing_protocol"),
    (gateway, {"remote_alias": None}, "remote_alias"),
    (Lecture, {"name": "L", "service_tag": "", "host_view": 1}, "host_view"),
    (MediaPlayback, {"name": "M", "service_tag": "", "media_playlist_name": ""}, "playlist"),
    (ParticipantProperties, {"preauthenticated_role": "host"}, "preauthenticated_role"),
    (ParticipantProperties, {"rx_presentation_policy": "allow"}, "rx_presentation_policy"),
    (MediaLocation, {"location": ""}, "location"),
    (MediaLocation, {"location": "Oslo", "overflow_locations": "Rome"}, "overflow_locations"),
    (MediaLocation, {"location": "Oslo", "overflow_locations": [""]}, "overflow_locations"),
    (AudioMix, {"mix_name": "a.b.c.d"}, "mix_name"),
    (Redirect, {"new_alias": "bob@example.com"}, "new_alias"),
    (Redirect, {"new_alias": ""}, "new_alias"),
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


MISSING: list[Row] = [
    (Conference, {"service_tag": ""}, "name"),
    (Conference, {"name": "A"}, "service_tag"),
    (
        Gateway,
        {"name": "A", "service_tag": "", "local_alias": "a", "remote_alias": "b"},
        "outgoing",
    ),
    (MediaLocation, {}, "location"),
    (Directory, {}, "entries"),
    (DirectoryEntry, {"alias": "a"}, "description"),
    (Credentials, {"username": "u"}, "password"),
    (Redirect, {}, "new_alias"),
]


@pytest.mark.parametrize(("make", "fields", "field"), MISSING)
def test_a_missing_field_is_named(
    make: Callable[..., object], fields: dict[str, Any], field: str
) -> None:
    said = refused(lambda: make(**fields))
    assert field in said
    assert "required" in said


PIN = "48151623"
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


@pytest.mark.parametrize(
    "decision",
    [
        conference(pin=PIN, allow_guests=True, guest_pin=PIN[::-1]),
        Credentials(username="u", password=PIN),
        gateway(dtmf_sequence=PIN),
    ],
)
def test_a_secret_does_not_stand_in_the_repr(decision: object) -> None:
    assert PIN not in repr(decision)
    assert PIN[::-1] not in repr(decision)
    assert "***" in repr(decision)


@pytest.mark.parametrize("pin", ["0000", "0123#", "12345678901234567890", "007#"])
def test_a_pin_keeps_its_leading_zeros(pin: str) -> None:
    assert conference(pin=pin, allow_guests=False).set_fields()["pin"] == pin


@pytest.mark.parametrize("pin", ["123", "1234 ", "12a4", "1234\n", "#1234", "1234##", "١٢٣٤"])
def test_a_pin_is_digits(pin: str) -> None:
    assert "pin" in refused(lambda: conference(pin=pin))


def test_a_decision_is_frozen_and_keeps_what_was_checked() -> None:
    uuids = [UUID]
    decision = conference(breakout_uuids=uuids)
    uuids.append("changed")
    assert decision.breakout_uuids == [UUID]
    for name in ("name", "result", "made_up"):
        with pytest.raises(AttributeError):
            setattr(decision, name, "B")


def test_the_fields_of_a_decision_can_be_read() -> None:
    decision = conference(locked=True)
    assert decision.name == "Room"
    assert decision.locked is True
    missing = "made_up"
    with pytest.raises(AttributeError, match=missing):
        getattr(decision, missing)


def test_equal_decisions_are_equal() -> None:
    assert conference() == conference()
    assert conference() != conference(locked=True)
    assert len({conference(), conference()}) == 1
    assert Continue() != Reject()


class Layout(enum.StrEnum):
    ONE = "one_main_seven_pips"


class Shouted(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


def test_enums_and_strings_of_a_class_of_their_own_are_sent_as_plain_text() -> None:
    decision = conference(view=Layout.ONE, description=Shouted("quiet"))
    assert decision.set_fields()["view"] == "one_main_seven_pips"
    assert decision.set_fields()["description"] == "quiet"


def test_models_and_dictionaries_may_stand_inside_a_decision() -> None:
    fields: dict[str, Any] = {"local_alias": "a", "remote_alias": "b", "protocol": "sip"}
    fields["role"] = "guest"
    from_model = conference(automatic_participants=[AutomaticParticipant(**fields)])
    from_dict = conference(automatic_participants=[fields])
    assert from_model.set_fields() == from_dict.set_fields()
    assert from_dict.set_fields()["automatic_participants"] == [fields]


def test_a_plain_result_keeps_unknown_fields_with_a_warning() -> None:
    decision = Conference.from_result({"name": "A", "service_tag": "", "new_in_v99": 1})
    assert decision.set_fields()["new_in_v99"] == 1
    assert any("new_in_v99" in warning for warning in decision.warnings)


def test_rules_that_only_integrators_tell_are_warnings() -> None:
    decision = conference(pin="1234", guest_pin="1234", allow_guests=True)
    assert any("must differ" in warning for warning in decision.warnings)
    assert decision.set_fields()["guest_pin"] == "1234"


@pytest.mark.parametrize(
    "make",
    [
        lambda: conference(breakout=True, breakout_rooms=True),
        lambda: conference(breakout=True),
        lambda: conference(direct_media="always", breakout_rooms=True),
        lambda: Lecture(name="L", service_tag="", host_view="five_mains_seven_pips"),
    ],
)
def test_rules_that_pexip_documents_are_refused(make: Callable[[], object]) -> None:
    assert "DOCUMENTED" in refused(make)


def test_empty_credentials_have_to_be_asked_for_by_name() -> None:
    assert "without_authentication" in refused(lambda: Credentials(username="", password=""))
    open_door = Credentials.without_authentication(reason="a lab")
    assert open_door.set_fields() == {"username": "", "password": ""}
    assert open_door.reason == "a lab"


@pytest.mark.parametrize("image", ["text", None, bytearray(b"x"), 7])
def test_an_avatar_is_bytes(image: Any) -> None:
    assert "bytes" in refused(lambda: Avatar(image))


def test_a_long_reason_is_shortened_and_costs_no_decision() -> None:
    reason = Reject(reason="x" * 1000).reason
    assert reason is not None
    assert len(reason) == 250
    assert reason.endswith("…")


def test_a_reason_of_broken_text_costs_no_decision() -> None:
    reason = Continue(reason="a\udcffb").reason
    assert reason is not None
    assert reason.encode()


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.just("\udcff")
    | st.just(object()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
MODELS = (
    Conference,
    Lecture,
    Gateway,
    MediaPlayback,
    ParticipantProperties,
    MediaLocation,
    Directory,
    Credentials,
    Redirect,
    Reject,
)


@given(st.sampled_from(MODELS), st.data())
def test_a_decision_is_built_or_refused_and_nothing_else(
    model: type[Conference], data: st.DataObject
) -> None:
    names = st.sampled_from(sorted(model.names)) | st.text()
    fields = data.draw(st.dictionaries(names, ANYTHING, max_size=5))
    with suppress(DecisionError):
        json.loads(model.from_result(fields).result)
