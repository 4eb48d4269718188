"""The index: the same results as a linear scan, from few candidates."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.matching import Index
from tests.matching.strategies import PAIRS, WHENS, Pairs, Written, asked, compiled


@given(st.lists(WHENS, max_size=12), st.lists(PAIRS, min_size=1, max_size=3))
def test_the_first_match_is_that_of_a_linear_scan(whens: list[Written], calls: list[Pairs]) -> None:
    conditions = [compiled(when) for when in whens]
    index = Index((condition, number) for number, condition in enumerate(conditions))
    for pairs in calls:
        request = asked(pairs)
        scan = (number for number, found in enumerate(conditions) if found.matches(request))
        assert index.first(request) == next(scan, None)


def test_ten_thousand_rules_leave_at_most_one_candidate() -> None:
    shapes: list[Callable[[int], Written]] = [
        lambda n: {"local_alias": f"room{n}@example.com"},
        lambda n: {"local_alias": {"prefix": f"team{n}."}, "registered": True},
        lambda n: {"local_alias": {"suffix": f".unit{n}@example.com"}},
        lambda n: {"local_alias": {"user": f"user{n}", "host": "example.com"}},
    ]
    index = Index((compiled(shapes[n % 4](n)), n) for n in range(10_000))
    for alias, expected in {
        "room5000@example.com": 5000,
        "team5001.x@elsewhere.example": None,
        "a.unit5002@example.com": 5002,
        "user5003@example.com": 5003,
        "nobody@example.com": None,
    }.items():
        request = asked([("local_alias", alias)])
        assert len(index.candidates(request)) <= 1
        assert index.first(request) == expected


def test_a_value_that_all_conditions_require_is_not_indexed() -> None:
    whens: list[Written] = [
        {"local_alias": {"host": "example.com"}, "remote_alias": f"user{n}@example.com"}
        for n in range(500)
    ]
    index = Index((compiled(when), number) for number, when in enumerate(whens))
    request = asked([("local_alias", "x@example.com"), ("remote_alias", "user7@example.com")])
    assert list(index.candidates(request)) == [7]
