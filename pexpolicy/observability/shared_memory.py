"""The counters of all processes of a server, in memory that they share.

The board is made before the server forks. Each worker writes into a slab of its own, from one
thread, so nothing is locked; whoever is asked for the metrics reads all slabs. A slab names what it
holds, so that workers need not agree on what there is to count: after a reload the plugins may be
others.
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
"""Bytes of a cell: a whole number with a sign. One is written in one piece on 64-bit machines."""
SERIES_CELLS = 49_152
"""Cells of a slab for series: some 140 plugins. What does not fit any more is not counted."""
NODES = 1000
"""Nodes that a slab has room for."""
NODE_CELLS = 10
_SLAB_CELLS = SERIES_CELLS + NODES * NODE_CELLS
_OWNER, _HEARTBEAT, _USED, _HEADER = 0, 1, 2, 3
_SCRATCH = max(family.cells for family in STORED_METRICS.values())
"""Cells at the end that anything may be written to, and nobody reads."""
_BETWEEN = "\x1f"

Labels = tuple[str, ...]


class SharedCounters:
    """Room for ``slots`` workers; by default for a server that is one process."""

    def __init__(self, slots: int = 1) -> None:
        # Anonymous memory is given by the page, when it is first written to.
        memory = memoryview(mmap.mmap(-1, slots * _SLAB_CELLS * CELL))
        size = _SLAB_CELLS * CELL
        self._slabs = [WorkerCounters(memory[at * size : (at + 1) * size]) for at in range(slots)]

    def claim(self, slot: int = 0) -> WorkerCounters:
        """The slab of a slot for this process; what an earlier one counted is counted on."""
        counters = self._slabs[slot]
        counters.claim()
        return counters

    def reserve(self) -> int | None:
        """A free slot for a worker that is about to be forked, or ``None`` where there is none.
        Called by the one process that forks.
        """
        for slot, counters in enumerate(self._slabs):
            if not counters.is_taken:
                counters.release()
                # The process that forks stands in for the worker that is not there yet.
                counters.owner = -os.getpid()
                return slot
        return None

    def release(self, slot: int, worker: int) -> None:
        """Give back the slot of a worker that has ended; ``worker`` is its process id."""
        counters = self._slabs[slot]
        if counters.owner in (worker, -os.getpid()):
            counters.release()

    def __iter__(self) -> Iterator[WorkerCounters]:
        return iter(self._slabs)


class WorkerCounters:
    """The counters of one worker: cells, and what each of them is."""

    def __init__(self, memory: memoryview) -> None:
        self._raw = memory[: SERIES_CELLS * CELL]
        self.cells = self._raw.cast("q")
        """All cells, by the index that ``place`` gives."""
        self.nodes_raw = memory[SERIES_CELLS * CELL :]
        self._placed: dict[tuple[str, Labels], int] = {}

    def claim(self) -> None:
        """Make the slab that of this process."""
        self.release()
        self.owner = os.getpid()
        self.heartbeat()

    def release(self) -> None:
        """Make it nobody's. What was counted stays: a counter never goes back."""
        self.owner = 0
        self._placed = {(family.name, labels): at for family, labels, at in self.series()}
        for family, _, at in self.series():
            if family.kind is MetricType.GAUGE and family.aggregation is not Aggregation.LEAST:
                self.cells[at] = 0

    @property
    def owner(self) -> int:
        """The id of the process that writes here; 0 for none, negative for one that keeps the
        place for it.
        """
        return self.cells[_OWNER]

    @owner.setter
    def owner(self, pid: int) -> None:
        self.cells[_OWNER] = pid

    @property
    def is_alive(self) -> bool:
        """True while the process that writes here runs."""
        return self.owner > 0 and self.is_taken

    @property
    def is_taken(self) -> bool:
        """True while it belongs to a process that runs, or is kept by one."""
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
        """Say that the event loop of the worker runs."""
        self.cells[_HEARTBEAT] = time.monotonic_ns()

    @property
    def seconds_since_heartbeat(self) -> float:
        """Seconds since it last said so. The clock is that of the machine, the same for all."""
        return (time.monotonic_ns() - self.cells[_HEARTBEAT]) / 1e9

    def allocate(self, family: MetricDefinition, labels: Labels = ()) -> int:
        """The index of the first cell of a series, which is made where it is not there yet."""
        known = self._placed.get((family.name, labels))
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
        # Whoever reads meanwhile sees the series once it is whole.
        self.cells[_USED] = end - _HEADER
        self._placed[family.name, labels] = first
        return first

    def replace(self, family: MetricDefinition, labels: Labels) -> int:
        """The same for a family of which there is one series at a time: the one before is renamed,
        as a slab has no room for every configuration that ever was. It begins at 0.
        """
        key = _key(family, labels)
        for (name, before), first in self._placed.items():
            if name == family.name and len(_key(family, before)) == len(key):
                self.cells[first] = 0
                begin = (first - -(-len(key) // CELL)) * CELL
                self._raw[begin : begin + len(key)] = key
                del self._placed[name, before]
                self._placed[name, labels] = first
                return first
        return self.allocate(family, labels)

    def series(self) -> Iterator[tuple[MetricDefinition, Labels, int]]:
        """Each series of the slab, with the index of its first cell."""
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
