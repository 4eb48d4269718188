"""The aggregate of the counters of all workers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from pexpolicy.observability.gauges import SAMPLE_INTERVAL_S
from pexpolicy.observability.metrics import (
    AUDIT_RECORDS,
    BUCKETS,
    LOOP_LAG,
    MICRO,
    NANO,
    PLUGIN_CALLS,
    PLUGIN_DURATION,
    PLUGIN_QUICK,
    REQUESTS,
    STORED_METRICS,
    WORKERS,
    Aggregation,
    MetricDefinition,
    MetricType,
)
from pexpolicy.observability.shared_memory import Labels, SharedCounters

N = TypeVar("N", int, float)
Cells = list[int] | list[float]
Series = Mapping[Labels, Cells]
Readings = dict[MetricDefinition, dict[Labels, list[int]]]
PluginReadings = dict[str, tuple[MetricDefinition, dict[Labels, list[float]]]]
"""The metrics of plugins by name."""


def read(board: SharedCounters) -> Readings:
    """Return the cells of each series of each metric, including quick answers of plugins."""
    found = aggregate(board)
    _add_quick(found)
    # A call is not counted as a record, to save an addition; other records are.
    if calls := found[REQUESTS].values():
        _put(found[AUDIT_RECORDS], AUDIT_RECORDS, (), [sum(count for (count,) in calls)])
    return found


def aggregate(board: SharedCounters) -> Readings:
    """Return the cells of each series of each metric, aggregated over all workers.

    Counters include workers that have ended; gauges are those of running workers.
    """
    found: Readings = {family: {} for family in STORED_METRICS.values()}
    running = 0
    for counters in board:
        is_running = counters.is_running
        running += is_running
        for family, labels, first in counters.series():
            if family.is_float:
                continue
            if family.kind is not MetricType.GAUGE or is_running:
                cells = list(counters.cells[first : first + family.cells])
                _put(found[family], family, labels, cells)
        if is_running:
            # A blocked event loop cannot report its own lag.
            lag = int(
                max(counters.seconds_since_heartbeat - SAMPLE_INTERVAL_S, 0.0) * LOOP_LAG.scale
            )
            _put(found[LOOP_LAG], LOOP_LAG, (), [lag])
    found[WORKERS][()] = [running]
    return found


def read_plugin_metrics(board: SharedCounters) -> PluginReadings:
    """Return the metrics of plugins, aggregated over all workers as those of the server.

    Of two definitions of one name, such as before and after a reload, the last one is returned.
    """
    found: PluginReadings = {}
    for counters in board:
        is_running = counters.is_running
        for family, labels, first in counters.series():
            if not family.is_float or (family.kind is MetricType.GAUGE and not is_running):
                continue
            cells = list(counters.floats[first : first + family.cells])
            if family.kind is MetricType.GAUGE and math.isnan(cells[0]):
                continue
            known = found.get(family.name)
            if known is None or known[0] != family:
                known = found[family.name] = family, {}
            _put(known[1], family, labels, cells)
    return found


def _add_quick(found: Readings) -> None:
    """Add the quick answers of plugins, which have separate cells, to all their answers."""
    for (plugin, outcome), (_, *counts) in found.pop(PLUGIN_QUICK).items():
        count = sum(counts)
        found[PLUGIN_CALLS][plugin, outcome][0] += count
        duration = found[PLUGIN_DURATION][plugin,]
        duration[0] += sum(us * n for us, n in enumerate(counts)) * (NANO // MICRO)
        duration[BUCKETS] += count


def _put(
    series: dict[Labels, list[N]], family: MetricDefinition, labels: Labels, cells: list[N]
) -> None:
    before = series.get(labels)
    if before is None:
        series[labels] = cells
    elif family.aggregation is Aggregation.SUM:
        series[labels] = [a + b for a, b in zip(before, cells, strict=True)]
    else:
        better = max if family.aggregation is Aggregation.GREATEST else min
        series[labels] = [better(a, b) for a, b in zip(before, cells, strict=True)]
