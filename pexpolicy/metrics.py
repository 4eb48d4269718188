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
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn

from pexpolicy.models.hook_context import HOOK_CONTEXT

Kind = Literal["counter", "gauge", "histogram"]
Combine = Literal["sum", "max", "min"]
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
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()
    combine: Combine = "sum"

    def __post_init__(self) -> None:
        if self.combine not in ("sum", "max", "min"):
            msg = f"metric {self.name}: combine is 'sum', 'max' or 'min', and not {self.combine!r}"
            raise ValueError(msg)
        if not isinstance(self.help, str):
            raise TypeError(f"metric {self.name}: help is a text, and labels follow it")
        if not _NAME.fullmatch(self.name):
            msg = f"metric {self.name!r}: a name has lower-case letters, digits and _, such as hits"
            raise ValueError(msg)
        for label in self.labels:
            if not _NAME.fullmatch(label) or label == "le":
                msg = f"metric {self.name}: {label!r} is not the name of a label"
                raise ValueError(msg)
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"metric {self.name}: a label is named twice")
        if list(self.bounds) != sorted(set(self.bounds)) or not all(
            map(math.isfinite, self.bounds)
        ):
            msg = f"metric {self.name}: bounds must be numbers in ascending order"
            raise ValueError(msg)
        if len(self.bounds) > MAX_BOUNDS:
            msg = f"metric {self.name}: a histogram has up to {MAX_BOUNDS} bounds"
            raise ValueError(msg)

    def __hash__(self) -> int:
        # Less than all fields, as each use of a metric is a look-up.
        return hash(self.name)

    @property
    def cells(self) -> int:
        """The numbers of a series: the value, or the sum and the count of each bucket."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


class Series:
    """The numbers of one combination of label values."""

    __slots__ = ("cells", "definition", "labels", "plugin", "version")

    def __init__(self, plugin: str, definition: Definition, labels: tuple[str, ...]) -> None:
        self.plugin = plugin
        self.definition = definition
        self.labels = labels
        self.cells = [0.0] * definition.cells
        self.version = 0


class Registry:
    """The series of a process. Safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[tuple[str, Definition, tuple[str, ...]], Series] = {}
        self._sizes: dict[tuple[str, Definition], int] = {}
        self._metrics: dict[str, int] = {}
        self._definitions: dict[tuple[str, str, bool], Definition] = {}
        """The last of each name; a counter and a gauge of one name are exposed under two."""
        self._told: set[tuple[str, str]] = set()
        self.version = 0

    def clear(self) -> None:
        """Forget all values, as a forked process does with those of its parent."""
        self.__init__()  # type: ignore[misc]

    def add(
        self, plugin: str, definition: Definition, labels: tuple[str, ...], cells: dict[int, float]
    ) -> None:
        """Add to some cells of a series."""
        with self._lock:
            series = self._find(plugin, definition, labels)
            if series is not None:
                for at, amount in cells.items():
                    series.cells[at] += amount
                self._touch(series)

    def set(
        self, plugin: str, definition: Definition, labels: tuple[str, ...], value: float
    ) -> None:
        """Set the value of a gauge."""
        with self._lock:
            series = self._find(plugin, definition, labels)
            if series is not None:
                series.cells[0] = value
                self._touch(series)

    def value(self, plugin: str, definition: Definition, labels: tuple[str, ...]) -> float:
        """Return the value of a series, or the number of observations of a histogram."""
        with self._lock:
            series = self._series.get((plugin, definition, labels))
            if series is None:
                return 0.0
            return sum(series.cells[1:]) if definition.kind == "histogram" else series.cells[0]

    def changed_since(self, version: int) -> tuple[int, list[tuple[Series, list[float]]]]:
        """Return the present version, and the series that changed since an earlier one."""
        if version == self.version:
            return version, []
        with self._lock:
            changed = [(s, s.cells.copy()) for s in self._series.values() if s.version > version]
            return self.version, changed

    def _touch(self, series: Series) -> None:
        self.version += 1
        series.version = self.version

    def _find(self, plugin: str, definition: Definition, labels: tuple[str, ...]) -> Series | None:
        found = self._series.get((plugin, definition, labels))
        if found is not None:
            return found
        size = self._sizes.get((plugin, definition), 0)
        if not size:
            count = self._metrics.get(plugin, 0)
            if count >= MAX_METRICS:
                self._tell(
                    plugin, "", f"has more than {MAX_METRICS} metrics: others are not counted"
                )
                return None
            self._metrics[plugin] = count + 1
            self._tell_of_another(plugin, definition)
        other = (OTHER,) * len(labels)
        if size >= MAX_SERIES and labels != other:
            text = (
                f"the metric {definition.name} has more than {MAX_SERIES} combinations of label "
                f"values: further ones are counted as {OTHER!r}"
            )
            self._tell(plugin, definition.name, text)
            return self._find(plugin, definition, other)
        self._sizes[plugin, definition] = size + 1
        made = self._series[plugin, definition, labels] = Series(plugin, definition, labels)
        return made

    def _tell_of_another(self, plugin: str, definition: Definition) -> None:
        """Log that a metric of this name has other labels: a mistake, or another version."""
        key = plugin, definition.name, definition.kind == "counter"
        before = self._definitions.get(key, definition)
        self._definitions[key] = definition
        if before != definition:
            labels = " and ".join(", ".join(d.labels) or "(none)" for d in (before, definition))
            text = f"is made twice, with the labels {labels}: only the last one is exposed"
            self._tell(plugin, definition.name, f"the metric {definition.name} {text}")

    def _tell(self, plugin: str, metric: str, text: str) -> None:
        if (plugin, metric) not in self._told:
            self._told.add((plugin, metric))
            logging.getLogger(__name__).warning("plugin %s: %s", plugin, text)


REGISTRY = Registry()
"""The metrics of this process: modules of plugins make theirs when they are imported."""
os.register_at_fork(after_in_child=REGISTRY.clear)


def _label_value(value: object) -> str:
    text = str(value)[:MAX_VALUE]
    return text if text.isprintable() else _SEPARATORS.sub(" ", text)


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

    def value(self, plugin: str = "", /, **labels: str) -> float:
        """Return what this process counted for a plugin, for tests.

        Of a histogram, the number of observations.
        """
        return REGISTRY.value(plugin or self._plugin, self.definition, self._labels(labels))


class Counter(_Metric):
    """A number that only grows."""

    def inc(self, amount: float = 1, /, **labels: str) -> None:
        """Add to the counter; raises ``ValueError`` for a negative amount."""
        if not 0 <= amount < math.inf:
            msg = f"counter {self.definition.name}: {amount!r} is not a number of at least 0"
            raise ValueError(msg)
        REGISTRY.add(self._plugin, self.definition, self._labels(labels), {0: amount})


class Gauge(_Metric):
    """A number that is set. ``combine`` says how the values of several workers are combined."""

    def set(self, value: float, /, **labels: str) -> None:
        """Set the value."""
        REGISTRY.set(self._plugin, self.definition, self._labels(labels), float(value))

    def inc(self, amount: float = 1, /, **labels: str) -> None:
        """Add to the value."""
        REGISTRY.add(self._plugin, self.definition, self._labels(labels), {0: amount})

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
        bucket = 1 + bisect_left(self.definition.bounds, value)
        REGISTRY.add(self._plugin, self.definition, self._labels(labels), {0: value, bucket: 1})


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
