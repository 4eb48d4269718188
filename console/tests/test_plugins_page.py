"""The last hour of the plugins."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pexpolicy_console.index.reader import MinuteCount, quantile
from pexpolicy_console.index.writer import bucket_bound, bucket_of
from pexpolicy_console.pages import plugins


def test_steps_are_counted_by_plugin_and_latency() -> None:
    counts = [
        MinuteCount(1, "step", "rooms", "decided", bucket_of(900), 4),
        MinuteCount(2, "step", "rooms", "failed", bucket_of(90_000_000), 1),
        MinuteCount(2, "difference", "rooms", "", 0, 3),
        MinuteCount(2, "call", "media_location", "continue", 1, 7),
    ]
    hour = plugins.Hour(counts)
    assert hour.latencies == {"rooms": {bucket_of(900): 4, bucket_of(90_000_000): 1}}
    assert hour.differences == {"rooms": 3}


@given(st.dictionaries(st.integers(8, 120), st.integers(0, 50)))
def test_a_quantile_is_the_bound_below_which_its_share_is(counts: dict[int, int]) -> None:
    for share in (0.5, 0.99):
        found = quantile(Counter(counts), share)
        below = sum(
            n for one, n in counts.items() if bucket_bound(one) / 1000 <= (found or -math.inf)
        )
        assert (found is None) == (not sum(counts.values()))
        assert below >= share * sum(counts.values())
