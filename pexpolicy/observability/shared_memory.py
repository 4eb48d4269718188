"""The counters of all processes of a server, in shared memory.

The memory is allocated before the server forks. Each worker writes into its own part, from one
thread, so nothing is locked; a scrape reads all parts. A part contains the names of its series, so
workers need not have the same ones: after a reload the plugins may be others.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator

from pexpolicy.observability.metrics import (
    STORED_METRICS,
    Aggregation,
    MetricDefinition,
    MetricType,
)

CELL = 8
"""Bytes of a cell: a signed integer, which 64-bit machines write atomically."""
SERIES_CELLS = 49_152
"""Cells of a worker for series, enough for some 140 plugins. Further series are not counted."""
NODES = 1000
"""Maximum number of nodes of a worker."""
NODE_CELLS = 10
_WORKER_CELLS = SERIES_CELLS + NODES * NODE_CELLS
_OWNER, _HEARTBEAT, _USED, _HEADER = 0, 1, 2, 3
_SCRATCH = max(family.cells for family in STORED_METRICS.values())
"""Cells at the end that are written for series without room, and never read."""
_BETWEEN = "\x1f"

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
        self.nodes_raw = memory[SERIES_CELLS * CELL :]
        self._allocated: dict[tuple[str, Labels], int] = {}

    def claim(self) -> None:
        """Make this process the owner."""
        self.release()
        self.owner = os.getpid()
        self.heartbeat()

    def release(self) -> None:
        """Remove the owner. Counters keep their values, as a counter never decreases."""
        self.owner = 0
        self._allocated = {(family.name, labels): at for family, labels, at in self.series()}
        for family, _, at in self.series():
            if family.kind is MetricType.GAUGE and family.aggregation is not Aggregation.LEAST:
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
        key = _key(family, labels)
        at = _HEADER + self.cells[_USED]
        first = at + 2 + -(-len(key) // CELL)
        end = first + family.cells
        if end > SERIES_CELLS - _SCRATCH:
            return SERIES_CELLS - _SCRATCH
        self.cells[at], self.cells[at + 1] = len(key), family.cells
        self._raw[(at + 2) * CELL : (at + 2) * CELL + len(key)] = key
        # Last: a concurrent reader must not see an incomplete series.
        self.cells[_USED] = end - _HEADER
        self._allocated[family.name, labels] = first
        return first

    def rename_series(self, family: MetricDefinition, labels: Labels) -> int:
        """Return the same for a metric with one series at a time, which is renamed and set to 0.

        There is no room for a series of each configuration that was ever active.
        """
        key = _key(family, labels)
        for (name, before), first in self._allocated.items():
            if name == family.name and len(_key(family, before)) == len(key):
                self.cells[first] = 0
                begin = (first - -(-len(key) // CELL)) * CELL
                self._raw[begin : begin + len(key)] = key
                del self._allocated[name, before]
                self._allocated[name, labels] = first
                return first
        return self.allocate(family, labels)

    def series(self) -> Iterator[tuple[MetricDefinition, Labels, int]]:
        """Yield each series with the index of its first cell."""
        at, end = _HEADER, _HEADER + self.cells[_USED]
        while at < end:
            length, cells = self.cells[at], self.cells[at + 1]
            key = bytes(self._raw[(at + 2) * CELL : (at + 2) * CELL + length])
            first = at + 2 + -(-length // CELL)
            name, *labels = key.decode().split(_BETWEEN)
            yield STORED_METRICS[name], tuple(labels), first
            at = first + cells


def _key(family: MetricDefinition, labels: Labels) -> bytes:
    return _BETWEEN.join((family.name, *labels)).encode("utf-8", "replace")
