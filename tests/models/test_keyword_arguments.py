"""Keyword arguments of decisions: their order does not count, and positional ones are refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import (
    UNSET,
    Conference,
    DecisionError,
    Directory,
    DirectoryEntry,
    MediaLocation,
    Reject,
)
from pexpolicy.fields import AudioMix, AutomaticParticipant

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


@given(st.sampled_from(["pin", "name"]), st.permutations(list(FIELDS)))
def test_another_value_of_the_same_length_counts(changed: str, names: list[str]) -> None:
    other = {**FIELDS, changed: FIELDS[changed][::-1]}
    assert Conference(**{name: other[name] for name in names}) != Conference(**FIELDS)


@pytest.mark.parametrize(
    ("made", "form"),
    [
        (Reject, "Reject(reason=...)"),
        (MediaLocation, "MediaLocation(location=...)"),
        (Conference, "Conference(name=...)"),
        (AudioMix, "AudioMix(mix_name=...)"),
    ],
)
def test_a_positional_argument_is_refused_with_the_keyword_form(made: Any, form: str) -> None:
    with pytest.raises(TypeError) as raised:
        made("text")
    assert str(raised.value).endswith(f"takes keyword arguments only: write {form}")


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


def test_a_required_field_that_is_unset_is_missing() -> None:
    with pytest.raises(DecisionError, match=r"Conference\.name: is required"):
        Conference(name=UNSET, service_tag="")  # type: ignore[arg-type]
