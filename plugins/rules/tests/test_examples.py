"""Example requests of conditions."""

from collections import Counter

from hypothesis import Phase, given, settings

from pexpolicy_rules.analysis import example
from tests.matching.strategies import FLAT, WHENS, Written, compiled


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
