"""CPU time and memory of a server, including all its child processes and threads.

The figures are Linux's: ``/proc/PID/task/TID/schedstat`` (nanoseconds on a core, by the scheduler's
own clock) and ``/proc/PID/smaps_rollup`` (kilobytes). Both: see proc(5).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
SHORT_NS = 5_000_000
"""Threads that end after less do one small piece of work, such as a look at files."""


class ThreadEnded(RuntimeError):
    """A thread ended between two readings and took its CPU time with it."""


def tree(pid: int) -> Iterator[int]:
    """Return ``pid`` and all its descendants."""
    yield pid
    for children in _PROC.glob(f"{pid}/task/*/children"):
        for child in _words(children):
            yield from tree(int(child))


def _words(path: Path) -> list[str]:
    """Return the words of a file; none if its thread has ended meanwhile."""
    try:
        return path.read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def reading(pid: int) -> Mapping[int, int]:
    """Return the nanoseconds used so far by each thread of the tree under ``pid``."""
    return {
        int(stat.parent.name): int(words[0])
        for member in tree(pid)
        for stat in _PROC.glob(f"{member}/task/*/schedstat")
        if (words := _words(stat))
    }


def spent(before: Mapping[int, int], after: Mapping[int, int]) -> int:
    """Return the nanoseconds between two readings of a tree; new threads count from their start.

    :raises ThreadEnded: when a thread that had used ``SHORT_NS`` is missing in the second reading.
    """
    gone = before.keys() - after.keys()
    if long := sum(before[thread] >= SHORT_NS for thread in gone):
        raise ThreadEnded(f"{long} thread(s) ended while CPU time was being counted")
    return sum(after.values()) - sum(before[thread] for thread in before.keys() - gone)


@dataclass(frozen=True)
class Memory:
    """Memory of a tree in bytes: resident (RSS), and with shared pages split (PSS)."""

    rss: int
    pss: int

    def __sub__(self, other: "Memory") -> "Memory":
        return Memory(self.rss - other.rss, self.pss - other.pss)


def memory(pid: int) -> Memory:
    """Return the current memory of the tree under ``pid``."""
    totals = {"Rss": 0, "Pss": 0}
    for member in tree(pid):
        for line in (_PROC / str(member) / "smaps_rollup").read_text().splitlines():
            key, _, rest = line.partition(":")
            if key in totals:
                totals[key] += int(rest.split()[0]) * 1024
    return Memory(rss=totals["Rss"], pss=totals["Pss"])
