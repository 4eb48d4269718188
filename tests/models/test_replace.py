"""Decisions made anew: other fields, and the order of keyword arguments."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import (
    UNSET,
    Avatar,
    Conference,
    Continue,
    Decision,
    DecisionError,
    Directory,
    DirectoryEntry,
    ParticipantProperties,
    Redirect,
    Reject,
)
from pexpolicy.fields import AudioMix, AutomaticParticipant
from pexpolicy.models.contract import Extras
from pexpolicy.models.decision import is_intact

ROOM = Conference(
    name="Board", service_tag="b", pin="471100", description="Third floor", reason="listed"
)
VALUES: dict[str, Any] = {
    "name": "Other",
    "service_tag": "",
    "pin": "220033",
    "description": UNSET,
    "ivr_theme_name": "Oslo",
    "view": "one_main_zero_pips",
    "locked": True,
    "breakout_rooms": UNSET,
}


def test_a_field_is_set_replaced_or_removed_and_the_others_keep_their_order() -> None:
    made = ROOM.replace(ivr_theme_name="Oslo", pin="220033", description=UNSET)
    assert type(made) is Conference
    assert list(made.set_fields().items()) == [
        ("name", "Board"),
        ("service_tag", "b"),
        ("pin", "220033"),
        ("service_type", "conference"),
        ("ivr_theme_name", "Oslo"),
    ]
    assert is_intact(made)
    assert made.reason == "listed"
    assert ROOM.description == "Third floor"


@given(st.dictionaries(st.sampled_from(list(VALUES)), st.none()))
def test_it_equals_a_decision_of_the_resulting_fields(names: dict[str, None]) -> None:
    fields = {name: VALUES[name] for name in names}
    merged = {**ROOM.set_fields(), **fields}
    expected = Conference(**{n: v for n, v in merged.items() if v is not UNSET})
    assert ROOM.replace(**fields) == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "listed"),
        ({"reason": "moved"}, "moved"),
        ({"reason": None}, None),
        ({"reason": UNSET}, None),
        ({"reason": "x" * 300}, "x" * 249 + "…"),
    ],
)
def test_the_reason_stays_or_is_replaced(fields: dict[str, Any], reason: str | None) -> None:
    assert ROOM.replace(**fields).reason == reason
    assert ROOM.replace(**fields).result == ROOM.result


@pytest.mark.parametrize(
    ("decision", "fields", "text"),
    [
        (ROOM, {"pin": "letters"}, "Conference.pin"),
        (ROOM, {"host_pin": "1234"}, "there is no field 'host_pin'"),
        (ROOM, {"host_pin": UNSET}, "there is no field 'host_pin'"),
        (ROOM, {"name": UNSET}, "Conference.name: is required"),
        (ROOM, {"service_type": "lecture"}, "Conference.service_type"),
        (ROOM, {"description": "x" * 251}, "Conference.description"),
        (Reject(), {"name": "Board"}, "there is no field 'name'"),
        (Redirect(new_alias="sip:a@b.example"), {"new_alias": "a b"}, "Redirect.new_alias"),
        (Continue(), {"pin": "471100"}, "there is no field 'pin'"),
        (Avatar(b"picture"), {"image": "text"}, "takes the bytes of a picture"),
        (Avatar(b"picture"), {"width": 10}, "an image and a reason"),
    ],
)
def test_what_a_new_decision_refuses_is_refused(
    decision: Decision, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(DecisionError) as refused:
        decision.replace(**fields)
    assert text in str(refused.value)
    assert "471100" not in str(refused.value)


def test_nested_models_stay_and_are_replaced() -> None:
    heard = ParticipantProperties(send_to_audio_mixes=[AudioMix(mix_name="main")], spotlight=2)
    assert heard.replace(spotlight=UNSET) == ParticipantProperties(
        send_to_audio_mixes=[AudioMix(mix_name="main")]
    )
    assert heard.replace(send_to_audio_mixes=[AudioMix(mix_name="floor")]) == ParticipantProperties(
        send_to_audio_mixes=[AudioMix(mix_name="floor")], spotlight=2
    )
    found = Directory(entries=[DirectoryEntry(alias="a@b.example", description="A")])
    assert found.replace(ignore_local=True).entries == found.entries


def test_null_is_a_value_and_unset_is_none() -> None:
    asks = ParticipantProperties(preauthenticated_role=None)
    assert asks.replace(spotlight=1).set_fields() == {"preauthenticated_role": None, "spotlight": 1}
    assert asks.replace(preauthenticated_role=UNSET).set_fields() == {}


def test_an_avatar_has_its_image_and_reason() -> None:
    picture = Avatar(b"one", reason="cached")
    assert picture.replace(reason="new") == picture
    assert picture.replace(image=b"two") == Avatar(b"two")
    assert picture.replace(image=b"two").reason == "cached"


def test_fields_and_words_that_the_operator_lists_stay() -> None:
    extras = Extras(frozenset({"codecs"}), {"service_type": frozenset({"webinar"})})
    result = {"name": "Hall", "service_tag": "", "pin_hint": 1, "codecs": "x"}
    room = Conference.from_result({**result, "service_type": "conference"}, extras=extras)
    made = room.replace(view="one_main_zero_pips", codecs="y")
    assert made.set_fields()["codecs"] == "y"
    assert made.set_fields()["pin_hint"] == 1
    assert made.warnings == room.warnings
    assert "codecs" not in str(room.replace(codecs=UNSET).warnings)


def test_warnings_of_others_stay_unless_they_are_about_a_replaced_field() -> None:
    repaired = ROOM.with_warnings("view: was repaired", "name: was cut")
    assert repaired.replace(locked=True).warnings == ("view: was repaired", "name: was cut")
    assert repaired.replace(view="one_main_zero_pips").warnings == ("name: was cut",)
    bounded = ParticipantProperties(spotlight=-1)
    assert len(bounded.warnings) == 1
    assert bounded.replace(display_count=1).warnings == bounded.warnings
    assert not bounded.replace(spotlight=1).warnings
    assert len(ROOM.replace(reason="x").warnings) == 0


def test_a_class_of_a_plugin_stays_that_class() -> None:
    class Room(Conference):
        __slots__ = ()

        def __init__(self, title: str) -> None:
            super().__init__(name=title, service_tag="")

    made = Room("Board").replace(locked=True)
    assert type(made) is Room
    assert made.locked is True


FIELDS: dict[str, Any] = {
    "name": "Board",
    "service_tag": "board",
    "pin": "471100",
    "view": "one_main_zero_pips",
    "crypto_mode": "on",
}


@given(st.permutations(list(FIELDS)))
def test_the_order_of_keyword_arguments_does_not_count(names: list[str]) -> None:
    made = Conference(**{name: FIELDS[name] for name in names})
    assert made == Conference(**FIELDS)
    assert hash(made) == hash(Conference(**FIELDS))


@given(st.sets(st.sampled_from([name for name in FIELDS if name not in ("name", "service_tag")])))
def test_an_argument_that_is_unset_is_not_sent(unset: set[str]) -> None:
    fields: dict[str, Any] = dict.fromkeys(unset, UNSET)
    made = Conference(**{**FIELDS, **fields})
    assert made == Conference(**{n: value for n, value in FIELDS.items() if n not in unset})
    assert made.warnings == ()


def test_unset_is_left_out_everywhere() -> None:
    participant = AutomaticParticipant(
        local_alias="a", remote_alias="b", protocol="sip", role="guest", description=UNSET
    )
    assert participant.set_fields().keys() == {"local_alias", "remote_alias", "protocol", "role"}
    assert Reject(reject_reason=UNSET, reason="x") == Reject()
    entries = [DirectoryEntry(alias="a", description="b")]
    assert Directory(entries=entries, ignore_local=UNSET) == Directory(entries=entries)
    assert Conference.from_result({**FIELDS, "pin": UNSET}) == Conference(
        **{**FIELDS, "pin": UNSET}
    )
