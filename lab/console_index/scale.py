"""The size, speed and memory of an index of the audit, and how long searches in it take."""

import math
import os
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from lab.console_index import generated_audit
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import IndexReader, took_too_long
from pexpolicy_console.index.writer import IndexWriter

PAGE = 100
REPEATS = 5
ATTEMPTS = 9
"""Of a search that is ended for its time."""
FIRST = "a caller, first after a start without cached pages"
SEARCHES: Mapping[str, Query] = {
    "a caller": Query(alias="SIP:Caller0012345@Example.com"),
    "a caller's user name": Query(alias="caller0012345"),
    "a room that is called often": Query(alias="engineering@example.com"),
    "a room that is called seldom": Query(alias="room0046566@example.com"),
    "an alias that never called": Query(alias="nobody@example.org"),
    "a caller who was refused": Query(caller="caller0012345@example.com", action="reject"),
}
OTHER_SEARCHES: Mapping[str, Query] = {
    "the beginning of a caller": Query(alias="caller00123*"),
    "all lines": Query(),
    "refused by a rule": Query(rule="Scanners"),
    "slower than 20 ms": Query(slower="20"),
    "the first hour": Query(until="2023-11-15T12:00"),
}


@dataclass(slots=True)
class Measured:
    """What was measured; times are in seconds."""

    lines: int
    audit_bytes: int
    index_bytes: int = 0
    cpu: float = 0.0
    memory_mb: float = 0.0
    found: dict[str, int] = field(default_factory=dict)
    searches: dict[str, float] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Lines that one second of processor time indexes."""
        return self.lines / self.cpu

    @property
    def share(self) -> float:
        """Size of the index as a share of that of the audit."""
        return self.index_bytes / self.audit_bytes

    def report(self) -> Iterator[str]:
        """Yield lines of text."""
        yield f"{self.lines:,} lines, {self.audit_bytes / 1e9:.2f} GB"
        yield f"  indexed at {self.per_second:,.0f} lines a second of processor time"
        yield f"  index {self.index_bytes / 1e9:.2f} GB, {self.share:.1%} of the audit"
        yield f"  memory {self.memory_mb:.0f} MB at most"
        for name, seconds in self.searches.items():
            yield f"  {name}: {self.found[name]} lines, {seconds * 1000:.1f} ms"


def measure(folder: Path, lines: int, say: Callable[[str], None] = lambda _: None) -> Measured:
    """Index a generated audit in a folder, and search in it; ``say`` is told when a part of this is
    done.
    """
    audit, index = folder / "audit.jsonl", folder / "index"
    generated_audit.write(audit, lines)
    measured = Measured(lines, audit.stat().st_size)
    say(f"{lines:,} lines, {measured.audit_bytes / 1e9:.2f} GB, written")
    writer = IndexWriter(index, audit, 1 << 50)
    began = time.process_time()
    while writer.step():
        pass
    measured.cpu = time.process_time() - began
    assert (writer.state.lines, writer.state.damaged) == (lines, 0)
    measured.index_bytes = writer.state.size
    say(f"indexed at {measured.per_second:,.0f} lines a second of processor time")
    reader = IndexReader(index, audit)
    for name, query in {**SEARCHES, **OTHER_SEARCHES}.items():
        hits, measured.searches[name] = _quickest(partial(reader.search, query, limit=PAGE))
        measured.found[name] = len(hits)
        counts = f"counts of {name}"
        (measured.found[counts], _), measured.searches[counts] = _quickest(
            partial(reader.counts, query)
        )
    writer.close()
    measured.found[FIRST], measured.searches[FIRST] = _first(index, audit)
    measured.memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return measured


def _first(index: Path, audit: Path) -> tuple[int, float]:
    """Return what the first search of a new process finds, and its time, where no page of the
    files is in memory at the start.
    """
    for path in (*index.iterdir(), audit):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    reader = IndexReader(index, audit)
    began = time.perf_counter()
    hits = reader.search(SEARCHES["a caller"], limit=PAGE)
    return len(hits), time.perf_counter() - began


Found = TypeVar("Found")


def _quickest(search: Callable[[], Found]) -> tuple[Found, float]:
    """Return what is found, and the shortest time of several: others waited for processes."""
    seconds = math.inf
    found = _patient(search)
    for _ in range(REPEATS):
        began = time.perf_counter()
        _patient(search)
        seconds = min(seconds, time.perf_counter() - began)
    return found, seconds


def _patient(search: Callable[[], Found]) -> Found:
    """Search again after a search was ended for its time: on a busy machine one may wait."""
    for _ in range(ATTEMPTS):
        try:
            return search()
        except sqlite3.Error as error:
            if not took_too_long(error):
                raise
    return search()
