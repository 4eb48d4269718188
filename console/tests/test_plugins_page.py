"""The last hour of the plugins, and its plots."""

import math
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy_console.index.reader import MinuteCount
from pexpolicy_console.index.writer import bucket_of
from pexpolicy_console.pages import plugins
from pexpolicy_console.plots import BOUNDS, MINUTES, heat_map, quantile, stacked_bars

NOW = 1_000_000 * 60 + 59.0


def steps(minutes_ago: int, outcome: str, us: int, count: int = 1) -> MinuteCount:
    at = int(NOW // 60) - minutes_ago
    return MinuteCount(at, "step", "rooms", outcome, bucket_of(us), count)


def test_steps_are_counted_in_their_minute_by_outcome_and_latency() -> None:
    counts = [
        steps(0, "decided", 900, 4),
        steps(59, "failed", 90_000_000),
        steps(60, "failed", 1),
        MinuteCount(int(NOW // 60), "difference", "rooms", "", 0, 3),
        MinuteCount(int(NOW // 60), "call", "media_location", "continue", 1, 7),
    ]
    hour = plugins.Hour(counts, NOW)
    outcomes = hour.outcomes("rooms")
    assert outcomes["decided"] == [0] * (MINUTES - 1) + [4]
    assert outcomes["failed"] == [1] + [0] * (MINUTES - 1)
    first, *_, last = hour.latencies("rooms")
    assert (first[-1], sum(last), sum(first)) == (1, 4, 1)
    assert BOUNDS[last.index(4)] >= 0.0009
    assert hour.differences == {"rooms": 3}


def test_an_outcome_has_its_colour_whatever_others_there_are() -> None:
    hour = plugins.Hour([steps(0, "failed", 1, 3)], NOW)
    assert hour.legend("rooms") == [(plugins.OUTCOMES.index("failed"), "failed")]
    assert 'class="s3"' in hour.bars("rooms")


@given(st.lists(st.integers(0, 50), min_size=len(BOUNDS), max_size=len(BOUNDS)))
def test_a_quantile_is_the_bound_below_which_its_share_is(counts: list[int]) -> None:
    for share in (0.5, 0.99):
        found = quantile(zip(BOUNDS, counts, strict=True), share)
        below = sum(
            n for bound, n in zip(BOUNDS, counts, strict=True) if bound <= (found or -math.inf)
        )
        assert (found is None) == (not sum(counts))
        assert below >= share * sum(counts)


@pytest.mark.parametrize("most", [0, 1, 7, 12_345])
def test_plots_are_images_with_a_text_for_each_bar(most: int) -> None:
    minutes = [60.0 * at for at in range(MINUTES)]
    counts = {"<decided>": [most] * MINUTES, "failed": [0] * MINUTES}
    bars = fromstring(stacked_bars(minutes, counts, 'a "title"'))  # noqa: S314 - our own
    said = [element.text for element in bars.iter("title")]
    assert said == (
        [f"{at // 60:02}:{at % 60:02}Z: <decided> {most:,}" for at in range(60)] if most else []
    )
    assert bars.get("aria-label") == 'a "title"'
    columns = [[0] * (len(BOUNDS) - 1) + [most] for _ in minutes]
    heat = fromstring(heat_map(minutes, columns, "latency"))  # noqa: S314 - our own
    assert len([*heat.iter("rect")]) == (MINUTES if most else 0)
