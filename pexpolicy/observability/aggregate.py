"""What all slabs of a board say together."""

from __future__ import annotations

from collections.abc import Mapping

from pexpolicy.observability.gauges import SAMPLE_INTERVAL_S
from pexpolicy.observability.metrics import (
    AUDIT_RECORDS,
    BUCKETS,
    LOOP_LAG,
    MICRO,
    NANO,
    STORED_METRICS,
    PLUGIN_CALLS,
    PLUGIN_DURATION,
    PLUGIN_QUICK,
    REQUESTS,
    WORKERS,
    Aggregation,
    MetricDefinition,
    MetricType,
)
from pexpolicy.observability.shared_memory import Labels, SharedCounters

Series = Mapping[Labels, list[int]]


Readings = dict[MetricDefinition, dict[Labels, list[int]]]


def read(board: SharedCounters) -> Readings:
    """What is shown: the cells of each series of each family, what was counted apart included."""
    found = aggregate(board)
    _add_quick(found)
    # Each call has its record; the cell of the records holds those of everything else.
    if calls := found[REQUESTS].values():
        _put(found[AUDIT_RECORDS], AUDIT_RECORDS, (), [sum(count for (count,) in calls)])
    return found


def aggregate(board: SharedCounters) -> Readings:
    """The cells of each series of each family, those of all workers in one.

    A counter goes on when its worker has ended; a gauge is that of the workers that live.
    """
    found: Readings = {family: {} for family in STORED_METRICS.values()}
    alive = 0
    for counters in board:
        lives = counters.is_alive
        alive += lives
        for family, labels, first in counters.series():
            if family.kind is not MetricType.GAUGE or lives:
                cells = list(counters.cells[first : first + family.cells])
                _put(found[family], family, labels, cells)
        if lives:
            # A loop that is held right now cannot say so itself.
            held = int(
                max(counters.seconds_since_heartbeat - SAMPLE_INTERVAL_S, 0.0) * LOOP_LAG.scale
            )
            _put(found[LOOP_LAG], LOOP_LAG, (), [held])
    found[WORKERS][()] = [alive]
    return found


def _add_quick(found: Readings) -> None:
    """Add the quick answers of plugins, which are counted apart, to all their answers."""
    for (plugin, outcome), (_, *counts) in found.pop(PLUGIN_QUICK).items():
        count = sum(counts)
        found[PLUGIN_CALLS][plugin, outcome][0] += count
        took = found[PLUGIN_DURATION][plugin,]
        took[0] += sum(us * n for us, n in enumerate(counts)) * (NANO // MICRO)
        took[BUCKETS] += count


def _put(
    series: dict[Labels, list[int]], family: MetricDefinition, labels: Labels, cells: list[int]
) -> None:
    before = series.get(labels)
    if before is None:
        series[labels] = cells
    elif family.aggregation is Aggregation.SUM:
        series[labels] = [a + b for a, b in zip(before, cells, strict=True)]
    else:
        better = max if family.aggregation is Aggregation.GREATEST else min
        series[labels] = [better(a, b) for a, b in zip(before, cells, strict=True)]
