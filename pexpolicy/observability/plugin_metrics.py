"""The metrics of plugins in shared memory."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection

from pexpolicy.metrics import REGISTRY, Definition, Series
from pexpolicy.observability.metrics import METRICS, Aggregation, MetricDefinition, MetricType
from pexpolicy.observability.shared_memory import WorkerCounters

_AGGREGATIONS = {
    "sum": Aggregation.SUM,
    "max": Aggregation.GREATEST,
    "min": Aggregation.LEAST,
}


class PluginMetricsWriter:
    """Writes the metrics of the plugins of this process into the counters of its worker.

    Plugins count in their own memory, in any thread; only the event loop writes the shared one.
    """

    def __init__(self, counters: WorkerCounters) -> None:
        self._counters = counters
        self._places: dict[Series, tuple[int, list[float]] | None] = {}
        self._owners: dict[str, tuple[str, str]] = {}
        self._names: frozenset[str] = frozenset()
        self._seen = 0

    def use_plugins(self, names: Collection[str]) -> None:
        """Hide the gauges of plugins that are no longer configured, and write all others again."""
        for series, place in self._places.items():
            if (
                place is not None
                and series.definition.kind == "gauge"
                and series.plugin not in names
            ):
                self._counters.floats[place[0]] = math.nan
        self._seen = 0
        self._names = frozenset(names)

    def write(self) -> None:
        """Write what has changed."""
        self._seen, changed = REGISTRY.changed_since(self._seen)
        for series, cells in changed:
            if not series.plugin or (
                series.definition.kind == "gauge" and series.plugin not in self._names
            ):
                continue
            if series not in self._places:
                self._places[series] = self._allocate(series)
            place = self._places[series]
            if place is not None:
                first, before = place
                for at, (cell, start) in enumerate(zip(cells, before, strict=True), first):
                    self._counters.floats[at] = cell + start

    def _allocate(self, series: Series) -> tuple[int, list[float]] | None:
        """Return the first cell of a series, and the values that an earlier process left there."""
        family = family_of(series.plugin, series.definition)
        owner = series.plugin, series.definition.name
        if family.name in METRICS or self._owners.setdefault(family.name, owner) != owner:
            text = "plugin %s: the metric %s is not exposed: another one has the name %s"
        elif (first := self._counters.allocate_for_plugin(family, series.labels)) is None:
            text = "plugin %s: the metric %s is not exposed: there is no room for %s"
        else:
            size = series.definition.cells
            if series.definition.kind == "gauge":
                return first, [0.0] * size
            return first, list(self._counters.floats[first : first + size])
        logging.getLogger(__name__).warning(text, *owner, family.name)
        return None


def family_of(plugin: str, definition: Definition) -> MetricDefinition:
    """Return the definition under the name that is exposed."""
    name = f"pexpolicy_plugin_{re.sub('[^a-zA-Z0-9_]', '_', plugin)}_{definition.name}"
    return MetricDefinition(
        f"{name}_total" if definition.kind == "counter" else name,
        definition.help,
        definition.labels,
        MetricType(definition.kind),
        _AGGREGATIONS[definition.combine],
        bounds=definition.bounds,
        is_float=True,
    )
