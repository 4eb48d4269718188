"""The counters of all processes of a server, in shared memory.

The memory is allocated before the server forks. Each worker writes into its own part, from one
thread, so nothing is locked; a scrape reads all parts. A part contains the names of its series, so
workers need not have the same ones: after a reload the plugins may be others.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import time
from collections.abc import Iterator
from functools import lru_cache

from pexpolicy.observability.metrics import (
    STORED_METRICS,
    Aggregation,
    MetricDefinition,
    MetricType,
)

CELL = 8
"""Bytes of a cell: a signed integer, which 64-bit machines write atomically."""
SERIES_CELLS = 131_072
"""Cells of a worker for series. Further series are not counted."""
PLUGIN_CELLS = SERIES_CELLS - 49_152
"""Cells that the metrics of plugins may fill; the rest is enough for the server's own metrics of
some 140 plugins.
"""
NODES = 1000
"""Maximum number of nodes of a worker."""
NODE_CELLS = 10
_WORKER_CELLS = SERIES_CELLS + NODES * NODE_CELLS
_OWNER, _HEARTBEAT, _USED, _HEADER = 0, 1, 2, 3
_SCRATCH = max(family.cells for family in STORED_METRICS.values())
"""Cells at the end that are written for series without room, and never read."""
_BETWEEN = "\x1f"
_DEFINITION = b"\x1e"
"""Before the definition of a metric of a plugin, whose series refer to it by its position: readers
need not have loaded the plugin.
"""

Labels = tuple[str, ...]


class SharedCounters:
    """The counters of up to ``slots`` workers; by default of a single process."""

    def __init__(self, slots: int = 1) -> None:
        # The system allocates anonymous memory by the page, on first write.
        memory = memoryview(mmap.mmap(-1, slots * _WORKER_CELLS * CELL))
        size = _WORKER_CELLS * CELL
        self._workers = [WorkerCounters(memory[at * size : (at + 1) * size]) for at in range(slots)]

    def claim(self, slot: int = 0) -> WorkerCounters:
        """Return the counters of a slot for this process; they continue those of an earlier one."""
        counters = self._workers[slot]
        counters.claim()
        return counters

    def reserve(self) -> int | None:
        """Return a free slot for a worker that is about to be forked, or ``None``.

        Only the process that forks calls it.
        """
        for slot, counters in enumerate(self._workers):
            if not counters.is_owned:
                counters.release()
                # Negative: reserved by the process that forks.
                counters.owner = -os.getpid()
                return slot
        return None

    def release(self, slot: int, worker: int) -> None:
        """Release the slot of a worker that has ended; ``worker`` is its process id."""
        counters = self._workers[slot]
        if counters.owner in (worker, -os.getpid()):
            counters.release()

    def __iter__(self) -> Iterator[WorkerCounters]:
        return iter(self._workers)


class WorkerCounters:
    """The counters of one worker: cells, and the series that they belong to."""

    def __init__(self, memory: memoryview) -> None:
        self._raw = memory[: SERIES_CELLS * CELL]
        self.cells = self._raw.cast("q")
        """All cells, by the index that ``allocate`` returns."""
        self.floats = self._raw.cast("d")
        """The same cells, for metrics of plugins."""
        self.nodes_raw = memory[SERIES_CELLS * CELL :]
        self._allocated: dict[tuple[str, Labels], int] = {}
        self._definitions: dict[MetricDefinition, str] = {}

    def claim(self) -> None:
        """Make this process the owner."""
        self.heartbeat()
        # Never 0 meanwhile: the process that forks would give the slot to the next worker too.
        self.owner = os.getpid()
        self._restore()

    def release(self) -> None:
        """Remove the owner. Counters keep their values, as a counter never decreases."""
        self.owner = 0
        self._restore()

    def _restore(self) -> None:
        """Read the series that are there, and reset the gauges."""
        self._allocated, self._definitions = {}, {}
        for name, family, labels, at in self._entries():
            self._allocated[name, labels] = at
            if family.is_float:
                self._definitions[family] = name
                if family.kind is MetricType.GAUGE:
                    self.floats[at] = math.nan
            elif family.kind is MetricType.GAUGE and family.aggregation is not Aggregation.LEAST:
                self.cells[at] = 0

    @property
    def owner(self) -> int:
        """The id of the process that writes here; 0 for none, negative for a reservation."""
        return self.cells[_OWNER]

    @owner.setter
    def owner(self, pid: int) -> None:
        self.cells[_OWNER] = pid

    @property
    def is_running(self) -> bool:
        """True while the process that writes here is running."""
        return self.owner > 0 and self.is_owned

    @property
    def is_owned(self) -> bool:
        """True while a running process owns or reserves it."""
        owner = self.owner
        if owner == 0:
            return False
        try:
            os.kill(abs(owner), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def heartbeat(self) -> None:
        """Record that the event loop of the worker is running."""
        self.cells[_HEARTBEAT] = time.monotonic_ns()

    @property
    def seconds_since_heartbeat(self) -> float:
        """Seconds since the last heartbeat, by the clock that all processes share."""
        return (time.monotonic_ns() - self.cells[_HEARTBEAT]) / 1e9

    def allocate(self, family: MetricDefinition, labels: Labels = ()) -> int:
        """Return the index of the first cell of a series, which is added if it is new."""
        known = self._allocated.get((family.name, labels))
        if known is not None:
            return known
        first = self._append(_key(family.name, labels), family.cells, SERIES_CELLS)
        if first is None:
            return SERIES_CELLS - _SCRATCH
        self._allocated[family.name, labels] = first
        return first

    def allocate_for_plugin(self, family: MetricDefinition, labels: Labels) -> int | None:
        """Return the same for a metric of a plugin; ``None`` where there is no room for it."""
        name = self._definitions.get(family)
        if name is None:
            at = self._append(_DEFINITION + _encode(family), 0, PLUGIN_CELLS)
            if at is None:
                return None
            name = self._definitions[family] = str(at)
        first = self._allocated.get((name, labels))
        if first is None:
            first = self._append(_key(name, labels), family.cells, PLUGIN_CELLS)
            if first is not None:
                self._allocated[name, labels] = first
        return first

    def _append(self, key: bytes, cells: int, limit: int) -> int | None:
        """Add an entry with this many cells; return the first one, or ``None`` beyond ``limit``."""
        at = _HEADER + self.cells[_USED]
        first = at + 2 + -(-len(key) // CELL)
        end = first + cells
        if end > limit - _SCRATCH:
            return None
        self.cells[at], self.cells[at + 1] = len(key), cells
        self._raw[(at + 2) * CELL : (at + 2) * CELL + len(key)] = key
        # Last: a concurrent reader must not see an incomplete entry.
        self.cells[_USED] = end - _HEADER
        return first

    def rename_series(self, family: MetricDefinition, labels: Labels) -> int:
        """Return the same for a metric with one series at a time, which is renamed and set to 0.

        There is no room for a series of each configuration that was ever active.
        """
        key = _key(family.name, labels)
        for (name, before), first in self._allocated.items():
            if name == family.name and len(_key(name, before)) == len(key):
                self.cells[first] = 0
                begin = (first - -(-len(key) // CELL)) * CELL
                self._raw[begin : begin + len(key)] = key
                del self._allocated[name, before]
                self._allocated[name, labels] = first
                return first
        return self.allocate(family, labels)

    def series(self) -> Iterator[tuple[MetricDefinition, Labels, int]]:
        """Yield each series with the index of its first cell."""
        for _, family, labels, first in self._entries():
            yield family, labels, first

    def _entries(self) -> Iterator[tuple[str, MetricDefinition, Labels, int]]:
        """Yield each series with its name in memory."""
        definitions: dict[str, MetricDefinition] = {}
        at, end = _HEADER, _HEADER + self.cells[_USED]
        while at < end:
            length, cells = self.cells[at], self.cells[at + 1]
            key = bytes(self._raw[(at + 2) * CELL : (at + 2) * CELL + length])
            first = at + 2 + -(-length // CELL)
            if key.startswith(_DEFINITION):
                definitions[str(first)] = _decode(key[len(_DEFINITION) :])
            else:
                name, *labels = key.decode().split(_BETWEEN)
                family = STORED_METRICS[name] if name in STORED_METRICS else definitions[name]
                yield name, family, tuple(labels), first
            at = first + cells


def _key(name: str, labels: Labels) -> bytes:
    return _BETWEEN.join((name, *labels)).encode("utf-8", "replace")


def _encode(family: MetricDefinition) -> bytes:
    kind, aggregation = family.kind.value, family.aggregation.value
    text = json.dumps([family.name, family.doc, family.labels, kind, aggregation, family.bounds])
    return text.encode()


@lru_cache(maxsize=4096)
def _decode(key: bytes) -> MetricDefinition:
    name, doc, labels, kind, aggregation, bounds = json.loads(key)
    return MetricDefinition(
        name,
        doc,
        tuple(labels),
        MetricType(kind),
        Aggregation(aggregation),
        bounds=tuple(bounds),
        is_float=True,
    )
