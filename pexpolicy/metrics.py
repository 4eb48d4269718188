"""Metrics of plugins: counters, gauges and histograms that the server exposes with its own.

A metric may be made in a module or in ``__init__``, and is used in any thread. A value counts for
the plugin whose hook is running; in a thread of its own, for the plugin that made the metric.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from pexpolicy.models.context import HOOK_CONTEXT

Kind = Literal["counter", "gauge", "histogram"]
Combine = Literal["sum", "max", "min"]
Operation = Literal["inc", "set", "observe"]
Changes = dict[tuple["Definition", tuple[str, ...]], list[float]]
"""By definition and label values: the sum of a counter, the last value of a gauge, and all
observations of a histogram.
"""
MAX_METRICS = 64
"""Metrics of one plugin."""
MAX_SERIES = 100
"""Combinations of label values of one metric; further ones are counted as ``other``."""
MAX_VALUE = 100
"""Characters of a label value."""
OTHER = "other"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Default bounds of a histogram."""
MAX_BOUNDS = 30
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SEPARATORS = re.compile("[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class Definition:
    """What a metric is; raises ``ValueError`` for what Prometheus would not take."""

    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    combine: Combine = "sum"
    """How the gauges of several workers are combined."""

    def __post_init__(self) -> None:
        name = f"metric {self.name}"
        if self.combine not in ("sum", "max", "min"):
            msg = f"{name}: combine is 'sum', 'max' or 'min', and not {self.combine!r}"
            raise ValueError(msg)
        if not isinstance(self.help, str):
            raise TypeError(f"{name}: help is a text, and labels follow it")
        if not _NAME.fullmatch(self.name):
            msg = f"metric {self.name!r}: a name has lower-case letters, digits and _, such as hits"
            raise ValueError(msg)
        for label in self.labels:
            if not _NAME.fullmatch(label) or label == "le":
                raise ValueError(f"{name}: {label!r} is not the name of a label")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"{name}: a label is named twice")
        ascending = list(self.bounds) == sorted(set(self.bounds))
        if not ascending or not all(map(math.isfinite, self.bounds)):
            raise ValueError(f"{name}: bounds must be numbers in ascending order")
        if (self.kind == "histogram") != bool(self.bounds) or len(self.bounds) > MAX_BOUNDS:
            raise ValueError(f"{name}: a histogram has up to {MAX_BOUNDS} bounds")

    def __hash__(self) -> int:
        # Less than all fields, as each use of a metric is a look-up.
        return hash(self.name)

    def make(self, name: str = "") -> Any:
        """Return the metric of ``prometheus_client``, by default under its own name."""
        # Imported with the first metric, to keep commands and workers of plugins fast.
        from prometheus_client import Counter, Gauge, Histogram  # noqa: PLC0415

        name = name or self.name
        if self.kind == "histogram":
            return Histogram(name, self.help, self.labels, registry=None, buckets=self.bounds)
        kind = Counter if self.kind == "counter" else Gauge
        return kind(name, self.help, self.labels, registry=None)


class PluginMetrics:
    """The metrics of the plugins of this process. Safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metrics: dict[tuple[str, Definition], Any] = {}
        self._children: dict[tuple[str, Definition, tuple[str, ...]], Any] = {}
        self._counts: dict[tuple[str, Definition | None], int] = {}
        """The series of each metric, and the metrics of each plugin."""
        self._told: set[tuple[str, str]] = set()
        self._changes: Changes | None = None

    def clear(self) -> None:
        """Forget all values, as a forked process does with those of its parent."""
        self.__init__()  # type: ignore[misc]

    def record(
        self,
        plugin: str,
        definition: Definition,
        labels: tuple[str, ...],
        operation: Operation,
        value: float,
    ) -> None:
        """Change one series of a metric."""
        child = self._children.get((plugin, definition, labels))
        if child is None:
            with self._lock:
                child = self._find(plugin, definition, labels)
        if child is not None:
            getattr(child, operation)(value)
            if self._changes is not None:
                self._keep(plugin, definition, labels, value)

    def keep_changes(self) -> None:
        """Keep all changes from now on until they are taken."""
        self._changes = {}

    def take_changes(self) -> Changes:
        """Return the changes since the last call."""
        with self._lock:
            changes, self._changes = self._changes, {}
        return changes or {}

    def _keep(
        self, plugin: str, definition: Definition, labels: tuple[str, ...], value: float
    ) -> None:
        with self._lock:
            assert self._changes is not None
            values = self._changes.setdefault((definition, labels), [])
            if definition.kind == "histogram" or not values:
                values.append(value)
            elif definition.kind == "counter":
                values[0] += value
            if definition.kind == "gauge":
                values[0] = self.value(plugin, definition, labels)

    def value(self, plugin: str, definition: Definition, labels: tuple[str, ...]) -> float:
        """Return the value of a series, or the number of observations of a histogram."""
        child = self._children.get((plugin, definition, labels))
        if child is None:
            return 0.0
        samples = next(iter(child.collect())).samples
        wanted = "_count" if definition.kind == "histogram" else ""
        return float(next(s.value for s in samples if s.name.endswith(wanted)))

    def collect(
        self, plugins: Collection[str], taken: Collection[str]
    ) -> Iterator[tuple[str, Definition, Any]]:
        """Yield each metric by its exposed name; gauges of these ``plugins`` only.

        Of two definitions of one metric the last one is yielded. Metrics whose exposed name is
        ``taken``, or that of another plugin, are not.
        """
        with self._lock:
            found = list(self._metrics.items())
        owners = dict.fromkeys(taken, ("", ""))
        last: dict[str, tuple[str, Definition, Any]] = {}
        for (plugin, definition), metric in found:
            if not plugin or (definition.kind == "gauge" and plugin not in plugins):
                continue
            owner = plugin, definition.name
            name = f"pexpolicy_plugin_{re.sub('[^a-zA-Z0-9_]', '_', plugin)}_{definition.name}"
            name += "_total" * (definition.kind == "counter")
            if owners.setdefault(name, owner) == owner:
                last[name] = name, definition, metric
            else:
                text = f"is not exposed: another one has the name {name}"
                self._tell(plugin, name, f"the metric {definition.name} {text}")
        yield from last.values()

    def _find(self, plugin: str, definition: Definition, labels: tuple[str, ...]) -> Any:
        """Return a series, which is made if there is room for it."""
        found = self._children.get((plugin, definition, labels))
        if found is not None:
            return found
        size = self._counts.get((plugin, definition), 0)
        if not size:
            count = self._counts.get((plugin, None), 0)
            if count >= MAX_METRICS:
                text = f"has more than {MAX_METRICS} metrics: others are not counted"
                self._tell(plugin, "", text)
                return None
            self._counts[plugin, None] = count + 1
            self._add(plugin, definition)
        other = (OTHER,) * len(labels)
        if size >= MAX_SERIES and labels != other:
            text = (
                f"the metric {definition.name} has more than {MAX_SERIES} combinations of label "
                f"values: further ones are counted as {OTHER!r}"
            )
            self._tell(plugin, definition.name, text)
            return self._find(plugin, definition, other)
        self._counts[plugin, definition] = size + 1
        metric = self._metrics[plugin, definition]
        child = metric.labels(*labels) if labels else metric
        self._children[plugin, definition, labels] = child
        return child

    def _add(self, plugin: str, definition: Definition) -> None:
        """Make a metric; log one of this name with other labels: a mistake, or another version."""
        for owner, before in reversed(self._metrics):
            if (owner, before.name, before.kind) == (plugin, definition.name, definition.kind):
                labels = " and ".join(", ".join(d.labels) or "(none)" for d in (before, definition))
                text = f"is made twice, with the labels {labels}: only the last one is exposed"
                self._tell(plugin, definition.name, f"the metric {definition.name} {text}")
                break
        self._metrics[plugin, definition] = definition.make()

    def _tell(self, plugin: str, metric: str, text: str) -> None:
        if (plugin, metric) not in self._told:
            self._told.add((plugin, metric))
            logging.getLogger(__name__).warning("plugin %s: %s", plugin, text)


PLUGIN_METRICS = PluginMetrics()
"""One for the process: modules of plugins make their metrics when they are imported, and code in
threads uses them, so nothing could hand it to them.
"""
os.register_at_fork(after_in_child=PLUGIN_METRICS.clear)


def _label_value(value: object) -> str:
    text = str(value)[:MAX_VALUE]
    if text.isprintable():
        return text
    return _SEPARATORS.sub(" ", text).encode("utf-8", "replace").decode()


class _Metric:
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Refuse an unknown attribute, such as those of ``prometheus_client``."""
            hint = ": labels are arguments, as in inc(room='x')" if name == "labels" else ""
            raise AttributeError(f"a {type(self).__name__} has no attribute {name!r}{hint}")

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        (self._maker, _), _ = HOOK_CONTEXT.get()

    def _labels(self, values: dict[str, str]) -> tuple[str, ...]:
        """Return label values in their order; raises ``TypeError`` for other labels."""
        labels = self.definition.labels
        if len(values) != len(labels) or not all(label in values for label in labels):
            known = f"the labels {', '.join(labels)}" if labels else "no labels"
            used = ", ".join(values) or "none"
            msg = f"metric {self.definition.name} has {known}, and was used with {used}"
            raise TypeError(msg)
        return tuple([_label_value(values[label]) for label in labels])

    @property
    def _plugin(self) -> str:
        (plugin, _), _ = HOOK_CONTEXT.get()
        return plugin or self._maker

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
            msg = f"counter {self.definition.name}: {amount!r} is not a number of at least 0"
            raise ValueError(msg)
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
            msg = f"histogram {self.definition.name}: {value!r} is not a finite number"
            raise ValueError(msg)
        self._record("observe", value, labels)


def _names(labels: Sequence[str]) -> tuple[str, ...]:
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
