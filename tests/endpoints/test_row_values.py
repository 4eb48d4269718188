"""Rows of tables as fields of a decision."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import Conference, MediaPlayback, ParticipantProperties
from pexpolicy.rows import RowValues

VALUES = RowValues(Conference)


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("name", "12", "12"),
        ("pin", "0042", "0042"),
        ("allow_guests", 1, True),
        ("allow_guests", 0, False),
        ("allow_guests", "TRUE", True),
        ("allow_guests", "WAHR", True),
        ("allow_guests", "Falsch", False),
        ("allow_guests", "VRAI", True),
        ("allow_guests", "FAUX", False),
        ("allow_guests", "nein", False),
        ("name", "WAHR", "WAHR"),
        ("allow_guests", 2, 2),
        ("allow_guests", "maybe", "maybe"),
        ("participant_limit", 1, 1),
        ("participant_limit", "30", 30),
        ("breakout_uuids", '["a", "b"]', ["a", "b"]),
        ("automatic_participants", '[{"role": "guest"}]', [{"role": "guest"}]),
        ("automatic_participants", '[{role = "guest"}]', [{"role": "guest"}]),
        ("automatic_participants", [{"role": "guest"}], [{"role": "guest"}]),
        ("unknown", "7", 7),
    ],
)
def test_a_cell_has_the_type_of_its_field(field: str, value: object, read: object) -> None:
    found = VALUES.of({field: value, "pin": None} if field != "pin" else {field: value})
    assert found == {field: read}
    assert type(found[field]) is type(read)


def test_a_number_in_a_field_of_numbers_and_words_stays() -> None:
    assert RowValues(ParticipantProperties).of({"spotlight": 1}) == {"spotlight": 1}


def test_an_object_may_be_in_a_field_that_takes_text() -> None:
    values = RowValues(MediaPlayback)
    for cell in ('{"disconnect": true}', "{disconnect = true}"):
        assert values.of({"on_completion": cell}) == {"on_completion": {"disconnect": True}}
    assert values.of({"on_completion": "text", "name": "{}"}) == {
        "on_completion": "text",
        "name": "{}",
    }


@given(st.text())
def test_no_text_stops_the_reading(text: str) -> None:
    VALUES.of({"participant_limit": text, "name": text})


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2), max_size=3))
def test_json_is_read_back(value: list[dict[str, str]]) -> None:
    assert VALUES.of({"automatic_participants": json.dumps(value)}) == {
        "automatic_participants": value
    }
