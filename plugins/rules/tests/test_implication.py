"""Implication and contradiction: true for every request."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pexpolicy import ParticipantPropertiesRequest
from pexpolicy_rules.examples import example
from pexpolicy_rules.implication import contradiction, implies
from tests.matching.strategies import FLAT, PAIRS, WHENS, Pairs, Written, asked, compiled

REQUESTS = st.lists(PAIRS, min_size=1, max_size=4)


@given(FLAT | WHENS, FLAT | WHENS, REQUESTS)
@settings(max_examples=120)
def test_whatever_the_inner_one_matches_the_outer_one_does(
    outer: Written, inner: Written, calls: list[Pairs]
) -> None:
    one, other = compiled(outer), compiled(inner)
    if implies(other, one):
        found = example(other, "participant_properties")
        requests = [asked(pairs) for pairs in calls] + ([found.request()] if found else [])
        assert all(one.matches(r) for r in requests if other.matches(r))


@given(WHENS, REQUESTS)
@settings(max_examples=120)
def test_nothing_matches_a_contradiction(when: Written, calls: list[Pairs]) -> None:
    condition = compiled(when)
    if contradiction(condition, ParticipantPropertiesRequest) is not None:
        assert not any(condition.matches(asked(pairs)) for pairs in calls)
        assert example(condition, "participant_properties") is None


@given(WHENS)
@settings(max_examples=100)
def test_an_example_matches_and_can_be_read_back(when: Written) -> None:
    condition = compiled(when)
    found = example(condition, "participant_properties")
    if found is not None:
        assert condition.matches(found.request())
        assert str(found).startswith("/policy/v1/participant/properties")


def test_most_conditions_of_one_key_have_an_example() -> None:
    found: Counter[bool] = Counter()

    @settings(max_examples=300, derandomize=True, database=None, phases=[Phase.generate])
    @given(FLAT)
    def count(when: Written) -> None:
        found[example(compiled(when), "participant_properties") is not None] += 1

    count()
    assert found.total() >= 300
    assert found[True] > 3 * found[False], found


def test_a_narrower_condition_implies_a_wider_one() -> None:
    pairs: list[tuple[Written, Written]] = [
        ({"local_alias": {"prefix": "a"}}, {"local_alias": "abc@example.com"}),
        ({"local_alias": {"host": "example.com"}}, {"local_alias": "abc@example.com"}),
        ({"local_alias": {"prefix": "a"}}, {"local_alias": {"prefix": ["ab", "ac"]}}),
        ({"vendor": {"contains": "b"}}, {"vendor": {"suffix": "xbx"}}),
        ({"vendor": {"not_prefix": "ab"}}, {"vendor": {"not_prefix": "a"}}),
        ({"remote_address": {"in_subnet": "10.0.0.0/8"}}, {"remote_address": "10.1.2.3"}),
        (
            {"remote_address": {"in_subnet": "10.0.0.0/8"}},
            {"remote_address": {"in_subnet": "10.1.0.0/16"}},
        ),
        ({"bandwidth": {"greater": 5}}, {"bandwidth": {"greater": 6}, "vendor": "x"}),
        ({"vendor": {"exists": True}}, {"vendor": {"glob": "a*"}}),
        ({"any": [{"vendor": "a"}, {"vendor": "b"}]}, {"vendor": {"one_of": ["b"]}}),
        ({"none": [{"vendor": "a"}]}, {"vendor": "b"}),
        ({}, {"any": [{"vendor": "a"}, {"registered": True}]}),
    ]
    for outer, inner in pairs:
        assert implies(compiled(inner), compiled(outer)), (outer, inner)
        assert not implies(compiled(outer), compiled(inner)), (outer, inner)


def test_one_of_several_values_implies_nothing_about_the_others() -> None:
    one = {"idp_attributes": {"group": "a"}}
    for outer in [
        {"idp_attributes": {"group": {"not_equals": "b"}}},
        {"idp_attributes": {"group": {"equals": "a", "values": "all"}}},
    ]:
        assert not implies(compiled(one), compiled(outer))
        both = [("idp_attribute_group", "a"), ("idp_attribute_group", "b")]
        assert compiled(one).matches(asked(both))
        assert not compiled(outer).matches(asked(both))
    assert contradiction(compiled({"all": [one, {"idp_attributes": {"group": "b"}}]})) is None


def test_contradictions_are_found() -> None:
    never: list[Written] = [
        {"local_alias": {"equals": "a@b", "host": "c"}},
        {"vendor": {"equals": "a", "prefix": "b"}},
        {"bandwidth": {"greater": 5, "less": 5}},
        {"vendor": {"exists": False, "contains": "x"}},
        {"alias": "a@b"},
        {"any": [{"vendor": {"equals": "a", "suffix": "b"}}, {"q": "x"}]},
        {"vendor": "a", "none": [{"vendor": {"prefix": "a"}}]},
    ]
    for when in never:
        assert contradiction(compiled(when), ParticipantPropertiesRequest), when


@pytest.mark.parametrize("pattern", ["[[:a]x", "[[:alpha:]]+[[:]", "(" * 400 + ")" * 400])
def test_an_example_of_an_odd_pattern_is_found_or_not_and_nothing_else(pattern: str) -> None:
    condition = compiled({"vendor": {"regex": pattern}})
    found = example(condition, "participant_properties")
    assert found is None or condition.matches(found.request())


def test_equal_times_are_equal() -> None:
    night = {"time": {"zone": "UTC", "between": ["18:00", "06:00"]}}
    day = {"time": {"zone": "UTC", "between": ["06:00", "18:00"]}}
    assert compiled(night) == compiled(night)
    assert hash(compiled(night)) == hash(compiled(night))
    assert compiled(night) != compiled(day)
    assert implies(compiled({**night, "vendor": "x"}), compiled(night))
    assert not implies(compiled({**day, "vendor": "x"}), compiled(night))


@pytest.mark.parametrize(("zone", "over"), [("Pacific/Honolulu", False), ("Europe/Oslo", True)])
def test_a_last_day_is_over_by_the_clock_of_its_zone(zone: str, *, over: bool) -> None:
    condition = compiled({"time": {"zone": zone, "until": "2026-01-14"}})
    now = datetime(2026, 1, 15, 6, tzinfo=UTC).timestamp()
    assert (contradiction(condition, now=now) is not None) is over
