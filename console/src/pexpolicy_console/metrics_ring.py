"""The metrics of the last hour, minute by minute, for plots."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

from pexpolicy.cli.for_console import CALL_BOUNDS
from pexpolicy_console.server_client import Sample, ServerClient, ServerUnavailable

INTERVAL_S = 15.0
"""Between two samples, as Prometheus has it by default."""
MINUTE_S = 60.0
MINUTES = 60

BOUNDS = (*CALL_BOUNDS, math.inf)
"""The upper bounds of the buckets of a histogram, in seconds."""
Series = tuple[str, ...]
"""A metric and the values of its labels."""
_COUNTED: Mapping[str, tuple[str, ...]] = {
    "pexpolicy_requests_total": ("endpoint", "outcome"),
    "pexpolicy_plugin_calls_total": ("plugin", "outcome"),
    "pexpolicy_shadow_diff_total": ("plugin",),
    "pexpolicy_request_duration_seconds_bucket": ("endpoint", "le"),
    "pexpolicy_plugin_duration_seconds_bucket": ("plugin", "le"),
}
"""The counters that are kept, with their labels."""


@dataclass(slots=True)
class Minute:
    """What was counted in one minute. ``start`` is in seconds of the Unix epoch."""

    start: float
    counts: Counter[Series] = field(default_factory=Counter)
    seconds: float = 0.0
    """The time that the counts cover; 0 for a minute without a sample."""

    def by(self, metric: str, *labels: str) -> dict[str, int]:
        """Return the counts of a metric with these first labels, by the next one."""
        found: Counter[str] = Counter()
        for series, count in self.counts.items():
            if series[0] == metric and series[1 : 1 + len(labels)] == labels:
                found[series[1 + len(labels)]] += count
        return dict(found)

    def buckets(self, metric: str, *labels: str) -> list[int]:
        """Return how many calls are in each bucket of a histogram: one for each bound, and one
        above the last.
        """
        return buckets_of(self.by(f"{metric}_bucket", *labels))


class MetricsRing:
    """Samples ``/metrics`` at an interval, and keeps what was counted in each minute.

    ``clock`` returns seconds of the Unix epoch.
    """

    def __init__(self, server: ServerClient, clock: Callable[[], float] = time.time) -> None:
        self._server = server
        self._clock = clock
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)
        self._last: dict[Series, float] = {}
        self._sampled: float | None = None

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            with suppress(ServerUnavailable):
                self.add(chain.from_iterable((await self._server.metrics()).values()))
            await asyncio.sleep(INTERVAL_S)

    def add(self, samples: Iterable[Sample]) -> None:
        """Add the samples of one reading; the first one is what later ones are compared with."""
        now = self._clock()
        values = {
            (one.name, *(one.labels.get(label, "") for label in labels)): one.value
            for one in samples
            if (labels := _COUNTED.get(one.name)) is not None
        }
        if self._sampled is not None and now - self._sampled <= 2 * MINUTE_S:
            minute = self._minute(now)
            minute.seconds += now - self._sampled
            for series, value in values.items():
                # A counter that fell is that of a server that was started again.
                before = self._last.get(series, 0.0)
                if (more := value - before if value >= before else value) > 0:
                    minute.counts[series] += round(more)
        self._last, self._sampled = values, now

    def _minute(self, now: float) -> Minute:
        start = now // MINUTE_S * MINUTE_S
        if not self._minutes or self._minutes[-1].start != start:
            self._minutes.append(Minute(start))
        return self._minutes[-1]

    def minutes(self) -> list[Minute]:
        """Return the last hour, the current minute last; minutes without a sample are empty."""
        known = {minute.start: minute for minute in self._minutes}
        last = self._clock() // MINUTE_S * MINUTE_S
        starts = (last - MINUTE_S * back for back in reversed(range(MINUTES)))
        return [known.get(start) or Minute(start) for start in starts]


def buckets_of(cumulative: Mapping[str, float]) -> list[int]:
    """Return the count of each bucket of a histogram from the cumulative counts by ``le``."""
    by_bound = {float(bound): round(count) for bound, count in cumulative.items()}
    found, below = [], 0
    for bound in BOUNDS:
        count = by_bound.get(bound, below)
        found.append(max(count - below, 0))
        below = max(count, below)
    return found


def quantile(buckets: Iterable[tuple[float, int]], share: float) -> float | None:
    """Return the upper bound of the bucket with this share of all calls; ``None`` without calls.

    ``buckets`` has the upper bound and the count of each, in ascending order.
    """
    buckets = list(buckets)
    rank = share * sum(count for _, count in buckets)
    for bound, count in buckets:
        rank -= count
        if count and rank <= 0:
            return bound
    return None
