"""What a process has counted, and the merge of several processes by the names of metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from pexpolicy.plugins.metrics import Combine, Definition, Series

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MAX_NODES = 1000
"""Nodes of a process; further ones take the place of those that were silent longest."""
_COMBINE: dict[Combine, Callable[[Iterable[float]], float]] = {"sum": sum, "max": max, "min": min}


class Family(msgspec.Struct, array_like=True):
    """The samples of one metric."""

    name: str
    """Without the ending of a counter."""
    definition: Definition
    samples: dict[tuple[str, ...], float] = {}
    """By the name of the sample and the values of its labels, ``le`` last."""

    def add(self, key: tuple[str, ...], value: float) -> None:
        """Combine a value with that of another process."""
        if (before := self.samples.get(key)) is not None:
            value = _COMBINE[self.definition.combine]((before, value))
        self.samples[key] = value


class Node(msgspec.Struct, array_like=True):
    """The calls of one Conferencing Node. Times are seconds of the Unix epoch; 0 means never."""

    address: str
    last_call: float = 0.0
    calls: int = 0
    last_refused: float = 0.0
    refused_because: str = ""


class Snapshot(msgspec.Struct, array_like=True):
    """The metrics and nodes of one process, or of several."""

    families: dict[str, Family] = {}
    nodes: dict[str, Node] = {}

    def add(self, other: Snapshot, *, is_running: bool = True) -> None:
        """Add what another process has counted, without gauges if it has ended.

        Of two definitions of one name, such as before and after a reload, the last one stays.
        """
        for name, family in other.families.items():
            known = self.families.get(name)
            if known is None or known.definition.labels != family.definition.labels:
                known = self.families[name] = Family(family.name, family.definition, {})
            if is_running or family.definition.kind != "gauge":
                for key, value in family.samples.items():
                    known.add(key, value)
        for address, node in other.nodes.items():
            before = self.nodes.get(address, Node(address))
            refused = max((one.last_refused, one.refused_because) for one in (before, node))
            last_call = max(before.last_call, node.last_call)
            self.nodes[address] = Node(address, last_call, before.calls + node.calls, *refused)
        self.nodes = last_nodes(self.nodes.values())

    def value(self, definition: Definition, *labels: str) -> float | None:
        """Return the value of a counter or gauge; ``None`` if it has none."""
        return self.families[definition.name].samples.get((definition.name, *labels))

    def by_last_label(self, definition: Definition, *before: str) -> dict[str, int]:
        """Return the non-zero values of a counter with these first labels, by the last label."""
        return {
            last: int(value)
            for (_, *first, last), value in self.families[definition.name].samples.items()
            if tuple(first) == before and value
        }

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as ``prometheus_client`` exposes them."""
        from prometheus_client.core import Metric  # noqa: PLC0415 - the supervisor does without

        for family in self.families.values():
            definition = family.definition
            metric = Metric(family.name, definition.help, definition.kind)
            for (name, *values), value in family.samples.items():
                names = zip((*definition.labels, "le"), values, strict=False)
                metric.add_sample(name, dict(names), value)
            yield metric


def last_nodes(nodes: Iterable[Node]) -> dict[str, Node]:
    """Return the last nodes by address, the longest silent first.

    Addresses that were only refused go before others: anyone can send from thousands.
    """
    found = sorted(nodes, key=lambda node: (node.last_call, node.last_refused, node.address))
    return {node.address: node for node in found[-MAX_NODES:]}


def family_of(series: Series) -> Family:
    """Return the samples of a metric."""
    (found,) = series.metric.collect()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for sample in found.samples
        if sample.name != f"{found.name}_created"
    }
    return Family(found.name, series.definition, samples)


def expose(snapshot: Snapshot) -> bytes:
    """Return the text that Prometheus scrapes."""
    from prometheus_client import generate_latest  # noqa: PLC0415 - as above

    return generate_latest(snapshot)


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The format that every version of Prometheus reads."""
