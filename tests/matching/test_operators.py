"""Every operator, alone and nested, against a naive implementation."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.matching import naive
from tests.matching.strategies import (
    ON_NUMBER,
    ON_TEXT,
    PAIRS,
    WHENS,
    Pairs,
    Written,
    asked,
    compiled,
)

TEXT_VALUES = st.text("aAbB.1@", min_size=1, max_size=4) | st.sampled_from(
    ["10.1.2.3", "2001:db8::1", "::ffff:10.1.2.3", "1", "2.5", "-1"]
)


@pytest.mark.parametrize("operator", sorted(ON_TEXT))
def test_an_operator_on_text_is_what_its_name_says(operator: str) -> None:
    seen: Counter[bool] = Counter()

    @settings(max_examples=150)
    @given(operand=ON_TEXT[operator], values=st.lists(TEXT_VALUES, max_size=2), cased=st.booleans())
    def compare(operand: object, values: list[str], *, cased: bool) -> None:
        when = {"params": {"odd-name": {operator: operand, "case_sensitive": cased}}}
        pairs = [("odd-name", value) for value in values]
        got = compiled(when).matches(asked(pairs))
        seen[got] += 1
        assert got is naive.matches(when, pairs)

    compare()
    assert seen.keys() == {True, False}


@pytest.mark.parametrize("operator", sorted(ON_NUMBER))
@given(data=st.data())
def test_an_operator_on_a_number_is_what_its_name_says(operator: str, data: st.DataObject) -> None:
    when = {"bandwidth": {operator: data.draw(ON_NUMBER[operator])}}
    value = data.draw(st.integers(-3, 4).map(str) | st.just("x"))
    pairs = [("bandwidth", value)]
    assert compiled(when).matches(asked(pairs)) is naive.matches(when, pairs)


@given(WHENS, PAIRS)
@settings(max_examples=100)
def test_any_condition_is_what_is_written(when: Written, pairs: Pairs) -> None:
    condition, request = compiled(when), asked(pairs)
    expected = naive.matches(when, pairs)
    assert condition.matches(request) is expected
    assert (condition.why(request) == "") is expected


@pytest.mark.parametrize("value", ["1_0", "\u0661", "", "nan", "inf", "0x10", "1e3", "9" * 5000])
@pytest.mark.parametrize("operator", ["greater", "less"])
def test_a_text_that_is_not_a_number_is_neither_greater_nor_less(operator: str, value: str) -> None:
    when = {"params": {"level": {operator: 5}}}
    assert not compiled(when).matches(asked([("level", value)]))
