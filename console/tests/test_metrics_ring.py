"""The metrics of the last hour, and their plots."""

from collections.abc import Mapping
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexpolicy.observability.metrics import CALL_BOUNDS
from pexpolicy_console.metrics_ring import (
    BOUNDS,
    MINUTES,
    MetricsRing,
    Minute,
    buckets_of,
    quantile,
)
from pexpolicy_console.pages import plugins
from pexpolicy_console.plots import heat_map, stacked_bars
from pexpolicy_console.server_client import Sample, ServerClient

REQUESTS = "pexpolicy_requests_total"


class Ring:
    """A ring with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 600_000.0
        self.ring = MetricsRing(ServerClient.__new__(ServerClient), lambda: self.now)

    def sample(self, seconds: float, *samples: tuple[str, Mapping[str, str], float]) -> None:
        self.now += seconds
        self.ring.add(Sample(*one) for one in samples)

    def calls(self) -> list[int]:
        return [minute.by(REQUESTS, "media_location").get("continue", 0) for minute in self.minutes]

    @property
    def minutes(self) -> list[Minute]:
        return self.ring.minutes()


def requests(count: float) -> tuple[str, Mapping[str, str], float]:
    return REQUESTS, {"endpoint": "media_location", "outcome": "continue"}, count


def test_calls_are_counted_in_their_minute_from_the_second_sample_on() -> None:
    ring = Ring()
    ring.sample(0, requests(1000))
    ring.sample(15, requests(1003))
    ring.sample(15, requests(1004))
    ring.sample(60, requests(1014))
    assert ring.calls() == [0] * (MINUTES - 2) + [4, 10]
    ring.now += 3600
    assert ring.calls() == [0] * MINUTES


def test_a_restarted_server_counts_from_zero_and_a_gap_counts_nothing() -> None:
    ring = Ring()
    ring.sample(0, requests(1000))
    ring.sample(10, requests(7))
    assert ring.calls()[-1] == 7
    ring.sample(1200, requests(500))
    assert sum(ring.calls()) == 7
    ring.sample(15, requests(501))
    assert sum(ring.calls()) == 8


@given(st.lists(st.integers(0, 50), min_size=18, max_size=18))
def test_buckets_come_back_from_their_cumulative_counts(counts: list[int]) -> None:
    bounds = (*map(str, CALL_BOUNDS), "+Inf")
    cumulative = {bound: sum(counts[: at + 1]) for at, bound in enumerate(bounds)}
    assert buckets_of(cumulative) == counts
    for share in (0.5, 0.99):
        found = quantile(zip(BOUNDS, counts, strict=True), share)
        if not sum(counts):
            assert found is None
            continue
        assert found is not None
        below = sum(n for bound, n in zip(BOUNDS, counts, strict=True) if bound <= found)
        assert below >= share * sum(counts)


@pytest.mark.parametrize("most", [0, 1, 7, 12_345])
def test_plots_are_images_with_a_text_for_each_bar(most: int) -> None:
    minutes = [Minute(60.0 * at) for at in range(MINUTES)]
    counts = {"<decided>": [most] * MINUTES, "failed": [0] * MINUTES}
    bars = fromstring(stacked_bars(minutes, counts, 'a "title"'))  # noqa: S314 - our own
    said = [element.text for element in bars.iter("title")]
    assert said == (
        [f"{at // 60:02}:{at % 60:02}Z: <decided> {most:,}" for at in range(60)] if most else []
    )
    assert bars.get("aria-label") == 'a "title"'
    columns = [[0] * 17 + [most] for _ in minutes]
    heat = fromstring(heat_map(minutes, columns, "latency"))  # noqa: S314 - our own
    assert len([*heat.iter("rect")]) == (MINUTES if most else 0)


def test_an_outcome_has_its_colour_whatever_others_there_are() -> None:
    minute = Minute(0.0)
    minute.counts["pexpolicy_plugin_calls_total", "rooms", "failed"] = 3
    assert plugins._legend([minute], "rooms") == [(plugins.OUTCOMES.index("failed"), "failed")]
    assert 'class="s3"' in plugins._bars([minute], "rooms")
