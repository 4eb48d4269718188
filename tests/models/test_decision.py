"""Decisions: only what was set is sent, and what was checked is what is sent."""

import enum
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import (
    Conference,
    Continue,
    Credentials,
    Decision,
    DecisionError,
    Directory,
    Gateway,
    Lecture,
    MediaLocation,
    MediaPlayback,
    ParticipantProperties,
    Redirect,
    Reject,
    VirtualReception,
)
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.fields import AutomaticParticipant
from pexpolicy.models.contract import contract_of
from pexpolicy.models.decision import is_intact
from tests.support.secret_canaries import PIN

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


def test_a_decision_is_frozen_and_keeps_what_was_checked() -> None:
    uuids = [UUID]
    decision = conference(breakout_uuids=uuids)
    uuids.append("changed")
    assert decision.breakout_uuids == [UUID]
    for name in ("name", "result", "made_up"):
        with pytest.raises(AttributeError, match=rf"frozen: write replace\({name}=\.\.\.\)"):
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


def test_a_decision_can_be_given_for_another_reason() -> None:
    first = conference(view="nine_equal", reason="a room")
    second = first.with_reason("x" * 300)
    assert (second, second.warnings, first.reason) == (first, first.warnings, "a room")
    assert second.result is first.result
    assert second.reason == "x" * 249 + "…"


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
    names = st.sampled_from(sorted(contract_of(model).names)) | st.text()
    fields = data.draw(st.dictionaries(names, ANYTHING, max_size=5))
    with suppress(DecisionError):
        json.loads(model.from_result(fields).result)


@pytest.mark.parametrize(
    "alias", ["sip:a\r\nContact: <sip:b>", "sip: a", "sip:a\x00", "sip:a\u00a0b", "sip:\t"]
)
def test_a_redirect_carries_neither_blanks_nor_control_characters(alias: str) -> None:
    with pytest.raises(DecisionError, match="neither blanks nor control characters"):
        Redirect(new_alias=alias)


@pytest.mark.parametrize(
    ("alias", "warns"),
    [
        ("sip:a@b", 0),
        ("SIPS:a@b", 0),
        ("h323:a@b", 0),
        ("tel:+47123", 0),
        ("http://b/", 1),
        ("javascript:1", 1),
        ('sip:"a"@b', 1),
        ("sip:a>,<sip:b", 1),
        ("sip:b", 0),
        ("sip:a;x=1@b;user=phone", 0),
        ("sip:@b", 1),
        ("sip:a@b@c", 1),
    ],
)
def test_a_redirect_that_may_lead_nowhere_is_warned_of(alias: str, warns: int) -> None:
    assert len(Redirect(new_alias=alias).warnings) == warns


CHANGES: list[tuple[Decision, str, object]] = [
    (Reject(reject_reason="x"), "result", b'{"preauthenticated_role":"chair"}'),
    (Conference(name="Room", service_tag=""), "result", b"}{ not json"),
    (Conference(name="Room", service_tag=""), "result", Continue().result),
    (Continue(), "reason", 7),
    (Continue(), "warnings", ("x",)),
    (Reject(), "__class__", Continue),
]


@pytest.mark.parametrize(("decision", "name", "value"), CHANGES)
def test_a_decision_that_was_changed_is_no_decision(
    decision: Decision, name: str, value: object
) -> None:
    changed = type(decision).from_result(decision.set_fields())
    assert is_intact(changed)
    object.__setattr__(changed, name, value)
    for endpoint in ("service_configuration", "participant_properties"):
        if type(decision) in ENDPOINTS[endpoint].decisions:
            with pytest.raises(DecisionError, match="changed after it was checked"):
                ENDPOINTS[endpoint].to_decision(changed)


def test_a_change_of_one_decision_does_not_reach_another_with_the_same_fields() -> None:
    changed, other = (Conference(name="Room", service_tag="", pin="1234") for _ in range(2))
    object.__setattr__(changed, "result", b"{}")
    assert is_intact(other)
    assert Conference(name="Room", service_tag="", pin="1234") == other != changed


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"allow_guests": True}, {"allow_guests": 1}),
        ({"participant_limit": 1}, {"participant_limit": True}),
        ({"participant_limit": 1}, {"participant_limit": 1.0}),
        ({"pin": "1234"}, {"pin": 1234}),
    ],
)
def test_what_was_accepted_once_does_not_let_an_equal_value_of_another_type_pass(
    right: dict[str, Any], wrong: dict[str, Any]
) -> None:
    for _ in range(2):
        Conference.from_result({"name": "Room", "service_tag": ""} | right)
        with pytest.raises(DecisionError):
            Conference.from_result({"name": "Room", "service_tag": ""} | wrong)


RECEPTION: dict[str, Any] = {"name": "Lobby", "service_tag": ""}


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: VirtualReception(**RECEPTION, match_string="("), "match_string: is not a regular"),
        (lambda: VirtualReception(**RECEPTION, post_match_string="a{2,1}"), "post_match_string"),
        (
            lambda: VirtualReception(**RECEPTION, match_string=r"(\d+)", replace_string=r"\2@b"),
            r"replace_string: does not fit match_string: \1 is its first group",
        ),
        (
            lambda: VirtualReception(**RECEPTION, match_string="a", replace_string="a\\q"),
            "replace_string",
        ),
        (
            lambda: VirtualReception(
                **RECEPTION, post_match_string="(?P<x>a)", post_replace_string=r"\g<y>"
            ),
            "post_replace_string: does not fit post_match_string",
        ),
        (lambda: VirtualReception(**RECEPTION, replace_string="a\\"), "replace_string"),
        (lambda: conference(name="a\0b"), "name: holds control characters"),
        (lambda: conference(name="   "), "name: holds control characters"),
        (lambda: gateway(name="a\nb"), "name: holds control characters"),
        (lambda: MediaLocation(location="Os\nlo"), "location: holds control characters"),
        (lambda: ParticipantProperties(receive_from_audio_mix="a.b.c.d"), "one to three levels"),
        (lambda: ParticipantProperties(display_count=-1), "display_count"),
        (lambda: ParticipantProperties(spotlight=2**63), "spotlight"),
        (
            lambda: conference(breakout=True, breakout_uuid=UUID, breakout_name="x", end_time=5),
            "end_time",
        ),
    ],
)
def test_what_makes_little_sense_is_sent_with_a_warning(
    build: Callable[[], Decision], says: str
) -> None:
    assert [said for said in build().warnings if says in said] != []


@pytest.mark.parametrize(
    ("match", "replacement"),
    [
        (r"(\d+)", r"\1@example.com"),
        (r"(\d+)|(a)", r"\2@example.com"),
        (r"(?P<a>\d+)@.*", r"\g<a>"),
        ("", r"\1@example.com"),
        ("", ""),
        (r"\d+", "plain"),
    ],
)
def test_a_replacement_that_fits_its_pattern_is_no_reason_for_a_warning(
    match: str, replacement: str
) -> None:
    made = VirtualReception(**RECEPTION, match_string=match, replace_string=replacement)
    assert made.warnings == ()


@pytest.mark.parametrize("name", ["Bjørn", "会議室", "A\u00a0B", "🎥"])
def test_a_name_in_any_language_is_no_reason_for_a_warning(name: str) -> None:
    assert conference(name=name).warnings == ()


def test_entries_without_a_user_name_get_an_empty_one() -> None:
    made = Directory.from_result({"entries": [{"alias": "a", "description": "A"}]})
    sent = ENDPOINTS["directory_information"].envelope(made)["result"]
    assert sent == [{"alias": "a", "description": "A", "username": ""}]


@pytest.mark.parametrize(
    "unknown", [{f"x{n}": n for n in range(101)}, {"x": ["a" * 200] * 100}, {"x": "a" * 251}]
)
def test_unknown_fields_have_a_limit(unknown: dict[str, Any]) -> None:
    with pytest.raises(DecisionError):
        Conference.from_result({"name": "Room", "service_tag": "", **unknown})
