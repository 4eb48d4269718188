"""Tables by alias: the spelling of an alias does not count."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy import Alias, AliasMap, AliasSet

SPELLINGS = ["bob@example.com", "SIP:Bob@Example.com:5060;transport=tls", " bob@EXAMPLE.com "]


@pytest.mark.parametrize("written", SPELLINGS)
@pytest.mark.parametrize("asked", [*SPELLINGS, *map(Alias, SPELLINGS)])
def test_any_spelling_finds_any_spelling(written: str, asked: str) -> None:
    table = AliasMap({written: 1, "other": 2})
    assert table[asked] == 1
    assert table.get(asked) == 1
    assert asked in table
    assert asked in AliasSet([written])


def test_what_is_not_there_is_not_found() -> None:
    table = AliasMap({"bob@example.com": 1})
    number: object = 5
    assert table.get("alice@example.com") is None
    assert table.get(Alias("alice@example.com"), 3) == 3
    with pytest.raises(KeyError):
        table["bob"]
    assert "bob" not in table
    assert number not in table
    assert "bob" not in AliasSet(table)
    assert number not in AliasSet(table)


def test_the_keys_keep_what_was_written() -> None:
    table = AliasMap([("SIP:Bob@Example.com", 1), ("Alice", 2)])
    assert [(alias.raw, alias, value) for alias, value in table.items()] == [
        ("SIP:Bob@Example.com", "bob@example.com", 1),
        ("Alice", "alice", 2),
    ]
    assert repr(table) == "AliasMap({Alias('SIP:Bob@Example.com'): 1, Alias('Alice'): 2})"
    assert repr(AliasSet(["Bob", "Alice"])) == "AliasSet(['Alice', 'Bob'])"


def test_two_spellings_of_one_alias_are_refused() -> None:
    with pytest.raises(ValueError, match="'Bob' is the same alias as 'sip:bob'"):
        AliasMap([("sip:bob", 1), ("Bob", 2)])
    assert len(AliasSet(["sip:bob", "Bob"])) == 1


def test_a_password_in_an_alias_is_not_shown() -> None:
    with pytest.raises(ValueError, match="same alias") as caught:
        AliasMap([("sip:bob:hush@example.com", 1), ("bob@example.com", 2)])
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("written", ["", "  ", "sip:", "@example.com"])
def test_what_is_no_alias_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="must be an alias"):
        AliasMap({written: 1})
    with pytest.raises(ValueError, match="must be an alias"):
        AliasSet([written])


def test_they_compare_and_copy_like_a_mapping_and_a_set() -> None:
    table = AliasMap({"Bob": 1})
    assert table == AliasMap({"sip:bob": 1}) == {"bob": 1}
    assert table != AliasMap({"bob": 2})
    assert AliasSet(["Bob"]) == AliasSet(["sip:bob"])
    assert hash(AliasSet(["Bob"])) == hash(AliasSet(["sip:bob"]))
    assert AliasSet(["a"]) | AliasSet(["B"]) == {"a", "b"}
    for again in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):  # noqa: S301
        assert again == table
        assert again["SIP:BOB"] == 1


@given(st.dictionaries(st.text(min_size=1), st.integers()), st.text())
def test_a_look_up_is_that_of_the_normal_forms(items: dict[str, int], asked: str) -> None:
    normal: dict[str, int] = {}
    for written, value in items.items():
        if Alias(written).user:
            normal.setdefault(Alias(written), value)
    table = AliasMap({alias.raw: value for alias, value in normal.items()})  # type: ignore[attr-defined]
    assert table.get(asked) == normal.get(Alias(asked))
    assert (asked in table) == (Alias(asked) in normal)
