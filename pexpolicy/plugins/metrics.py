"""Metrics of plugins: counters, gauges and histograms that the server exposes with its own.

A metric may be made in a module or in ``__init__``, and is used in any thread. A value counts for
the plugin whose hook is running; in a thread of its own, for the plugin that made the metric.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

from pexpolicy.models.context import HOOK_CONTEXT

Kind = Literal["counter", "gauge", "histogram"]
Combine = Literal["sum", "max", "min"]
Operation = Literal["inc", "set", "observe"]
Labels = tuple[str, ...]
"""Names of labels, or their values."""
MAX_SERIES = 100
"""Combinations of label values of one metric; further ones are counted as ``other``."""
MAX_VALUE = 100
"""Characters of a label value."""
OTHER = "other"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Default bounds of a histogram."""
MAX_BOUNDS = 30
_BOUNDS = f"a histogram, and no other metric, has up to {MAX_BOUNDS} bounds in ascending order"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Definition:
    """What a metric is; raises ``ValueError`` for what Prometheus would not take."""

    kind: Kind
    name: str
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()
    combine: Combine = "sum"
    """How the gauges of several workers are combined."""

    def __post_init__(self) -> None:
        ascending = sorted({*filter(math.isfinite, self.bounds)})[:MAX_BOUNDS]
        names = {one for one in self.labels if _NAME.fullmatch(one) and one != "le"}
        for is_wrong, text in (
            (not isinstance(self.help, str), "help is a text, and labels follow it"),
            (not _NAME.fullmatch(self.name), "a name has lower-case letters, digits and _"),
            (self.combine not in get_args(Combine), "combine is 'sum', 'max' or 'min'"),
            (
                len(names) < len(self.labels),
                "labels are named alike; 'le' is not the name of a label, and none is named twice",
            ),
            ([*self.bounds] != ascending or bool(ascending) != (self.kind == "histogram"), _BOUNDS),
        ):
            if is_wrong:
                raise ValueError(f"metric {self.name!r}: {text}")


class Series(dict[Labels, Any]):
    """The series of a metric by the values of its labels; a missing one is made."""

    def __init__(self, definition: Definition, name: str) -> None:
        # Imported with the first metric, to keep commands and workers of plugins fast.
        import prometheus_client  # noqa: PLC0415

        super().__init__()
        self.definition = definition
        kind = getattr(prometheus_client, definition.kind.title())
        buckets = {"buckets": definition.bounds} if definition.bounds else {}
        self.metric = kind(name, definition.help, definition.labels, registry=None, **buckets)

    def __missing__(self, labels: Labels) -> Any:
        series = self[labels] = self.metric.labels(*labels) if labels else self.metric
        return series

    def make(self, *labels: Iterable[str]) -> None:
        """Make the series of all combinations, so that they are exposed from the start."""
        for values in product(*labels):
            _ = self[values]


class PluginMetrics:
    """The metrics of the plugins of this process. Safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._metrics: dict[tuple[str, str, Kind], Series] = {}
        self._made: dict[str, tuple[object, Definition]] = {}

    def clear(self) -> None:
        """Forget all values, as a forked process does with those of its parent."""
        self.__init__()  # type: ignore[misc]

    def declare(self, definition: Definition) -> None:
        """Raise ``ValueError`` for a second metric of a name while a plugin is built."""
        context = HOOK_CONTEXT.get()
        plugin = context[0][0]
        exposed = _exposed(plugin, definition)
        made_in, before = self._made.get(exposed, (None, definition))
        if plugin and made_in is context and before != definition:
            text = "is made twice, in two ways: give each its own name, or make one with a label"
            raise ValueError(f"metric {definition.name!r} {text}")
        self._made[exposed] = context, definition

    def record(
        self,
        plugin: str,
        definition: Definition,
        labels: Labels,
        operation: Operation,
        value: float,
    ) -> None:
        """Change one series of a metric."""
        key = plugin, definition.name, definition.kind
        with self._lock:
            metric = self._metrics.get(key)
            if metric is None or metric.definition != definition:
                metric = self._metrics[key] = Series(definition, _exposed(plugin, definition))
            if labels not in metric and len(metric) >= MAX_SERIES:
                labels = (OTHER,) * len(labels)
            getattr(metric[labels], operation)(value)

    def value(self, plugin: str, definition: Definition, labels: Labels) -> float:
        """Return the value of a series, or the number of observations of a histogram."""
        found = self._metrics.get((plugin, definition.name, definition.kind))
        if found is None or labels not in found:
            return 0.0
        samples = next(iter(found[labels].collect())).samples
        wanted = "_count" if definition.kind == "histogram" else ""
        return float(next(s.value for s in samples if s.name.endswith(wanted)))

    def collect(
        self, plugins: Collection[str], taken: Collection[str]
    ) -> Iterator[tuple[str, Series]]:
        """Yield each metric by its exposed name; gauges of these ``plugins`` only.

        Metrics whose exposed name is ``taken``, or that of another plugin, are not.
        """
        owners = dict.fromkeys(taken, "")
        for (plugin, _, kind), metric in self._metrics.copy().items():
            exposed = _exposed(plugin, metric.definition)
            is_hidden = not plugin or (kind == "gauge" and plugin not in plugins)
            if not is_hidden and owners.setdefault(exposed, plugin) == plugin:
                yield exposed, metric


PLUGIN_METRICS = PluginMetrics()
"""One for the process: modules of plugins make their metrics when they are imported, and code in
threads uses them, so nothing could hand it to them.
"""
os.register_at_fork(after_in_child=PLUGIN_METRICS.clear)


def _exposed(plugin: str, definition: Definition) -> str:
    plugin = re.sub("[^a-zA-Z0-9_]", "_", plugin)
    total = "_total" * (definition.kind == "counter")
    return f"pexpolicy_plugin_{plugin}_{definition.name}{total}"


def _label_value(value: object) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value)[:MAX_VALUE])


class _Metric:
    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self._maker = HOOK_CONTEXT.get()[0][0]
        PLUGIN_METRICS.declare(definition)

    def _labels(self, values: dict[str, str]) -> Labels:
        """Return label values in their order; raises ``TypeError`` for other labels."""
        labels = self.definition.labels
        if values.keys() != set(labels):
            known, used = (", ".join(names) or "none" for names in (labels, values))
            raise TypeError(f"metric {self.definition.name} has the labels {known}, not {used}")
        return tuple([_label_value(values[label]) for label in labels])

    @property
    def _plugin(self) -> str:
        return HOOK_CONTEXT.get()[0][0] or self._maker

    def _record(self, operation: Operation, value: float, labels: dict[str, str]) -> None:
        PLUGIN_METRICS.record(self._plugin, self.definition, self._labels(labels), operation, value)

    def value(self, plugin: str = "", /, **labels: str) -> float:
        """Return what this process counted for a plugin, for tests.

        Of a histogram, the number of observations.
        """
        return PLUGIN_METRICS.value(plugin or self._plugin, self.definition, self._labels(labels))


class Counter(_Metric):
    """A number that only grows."""

    def inc(self, amount: float = 1, /, **labels: str) -> None:
        """Add to the counter; raises ``ValueError`` for a negative amount."""
        if not 0 <= amount < math.inf:
            raise ValueError(f"counter {self.definition.name}: {amount!r} is not at least 0")
        self._record("inc", amount, labels)


class Gauge(_Metric):
    """A number that is set. ``combine`` says how the values of several workers are combined."""

    def set(self, value: float, /, **labels: str) -> None:
        """Set the value."""
        self._record("set", float(value), labels)

    def inc(self, amount: float = 1, /, **labels: str) -> None:
        """Add to the value."""
        self._record("inc", amount, labels)

    def dec(self, amount: float = 1, /, **labels: str) -> None:
        """Subtract from the value."""
        self.inc(-amount, **labels)


class Histogram(_Metric):
    """The distribution of observed values."""

    def observe(self, value: float, /, **labels: str) -> None:
        """Count a value; raises ``ValueError`` for one that is not finite."""
        if not math.isfinite(value):
            raise ValueError(f"histogram {self.definition.name}: {value!r} is not a finite number")
        self._record("observe", value, labels)


def _names(labels: Sequence[str]) -> Labels:
    if isinstance(labels, str):
        msg = f"labels is a list of names: write [{labels!r}]"
        raise ValueError(msg)  # noqa: TRY004 - as for other labels
    return tuple(labels)


def counter(name: str, help: str, labels: Sequence[str] = ()) -> Counter:  # noqa: A002 - its name in Prometheus
    """Return a counter, exposed as ``pexpolicy_plugin_PLUGIN_NAME_total``.

    Raises ``ValueError`` for a name that Prometheus would not take.
    """
    return Counter(Definition("counter", name.removesuffix("_total"), help, _names(labels)))


def gauge(
    name: str,
    help: str,  # noqa: A002 - as above
    labels: Sequence[str] = (),
    *,
    combine: Combine = "sum",
) -> Gauge:
    """Return a gauge; ``combine`` the values of several workers: sum, max or min.

    Raises ``ValueError`` as ``counter`` does.
    """
    return Gauge(Definition("gauge", name, help, _names(labels), combine=combine))


def histogram(
    name: str,
    help: str,  # noqa: A002 - as above
    labels: Sequence[str] = (),
    *,
    bounds: Sequence[float] = SECONDS,
) -> Histogram:
    """Return a histogram with these upper bounds of its buckets, by default in seconds.

    Raises ``ValueError`` as ``counter`` does.
    """
    definition = Definition("histogram", name, help, _names(labels), tuple(map(float, bounds)))
    return Histogram(definition)
