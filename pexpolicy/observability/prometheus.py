"""The metrics in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from pexpolicy.observability.aggregate import Series, read, read_plugin_metrics
from pexpolicy.observability.metrics import MetricDefinition, MetricType
from pexpolicy.observability.shared_memory import SharedCounters

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""The format that every version of Prometheus reads."""


class SharedCountersCollector(Collector):
    """Passes the counters to ``prometheus_client`` when they are scraped."""

    def __init__(self, board: SharedCounters) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """Yield each metric, including those without a value."""
        for family, series in read(self._board).items():
            if family.kind is MetricType.HISTOGRAM:
                yield _histogram(family, series)
            else:
                yield _plain(family, series)
        for plugin_family, values in read_plugin_metrics(self._board).values():
            make = _histogram if plugin_family.kind is MetricType.HISTOGRAM else _plain
            yield make(plugin_family, values)


def expose(board: SharedCounters) -> bytes:
    """Return the text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SharedCountersCollector(board))
    return generate_latest(registry)


def _plain(family: MetricDefinition, series: Series) -> Metric:
    kind = CounterMetricFamily if family.kind is MetricType.COUNTER else GaugeMetricFamily
    metric = kind(family.name, family.doc, labels=family.labels)
    for labels, (cell,) in sorted(series.items()):
        if cell or family.includes_zero:
            metric.add_metric(labels, cell / family.scale if family.scale != 1 else cell)
    return metric


def _histogram(family: MetricDefinition, series: Series) -> Metric:
    metric = HistogramMetricFamily(family.name, family.doc, labels=family.labels)
    names = (*(repr(bound) for bound in family.bounds), "+Inf")
    for labels, (total, *buckets) in sorted(series.items()):
        counts = [float(count) for count in accumulate(buckets)]
        metric.add_metric(labels, list(zip(names, counts, strict=True)), total / family.scale)
    return metric
