"""Command line of pexpolicy with a record of every garbage collection.

Run as ``python -m bench.gc_monitor REPORT serve ...``. At the end REPORT holds JSON: ``natural``
and ``forced``, each a list of ``[when, seconds, cpu seconds]``, ``when`` by the monotonic clock. On
a shared machine the seconds include the time of other programs; the CPU seconds do not. The
signal ``FORCE`` makes one full collection: in a short run none may come by itself, in a server
that runs for weeks it does.
"""

import gc
import json
import runpy
import signal
import sys
import time
from array import array
from pathlib import Path
from types import FrameType
from typing import Literal

FORCE = signal.SIGRTMIN


class Watch:
    """Recorder of collections that allocates no objects tracked by the collector."""

    def __init__(self) -> None:
        self._natural = array("d")
        self._forced = array("d")
        self._notes = self._natural
        self._begun = self._spent = 0.0

    def note(self, phase: Literal["start", "stop"], _info: dict[str, int]) -> None:
        """Record a phase of a collection; a callback for :data:`gc.callbacks`."""
        if phase == "start":
            self._begun, self._spent = time.monotonic(), time.thread_time()
            return
        seconds, cpu = time.monotonic() - self._begun, time.thread_time() - self._spent
        for figure in (self._begun, seconds, cpu):
            self._notes.append(figure)

    def force(self, _signal: int, _frame: FrameType | None) -> None:
        """Run a full collection."""
        self._notes = self._forced
        gc.collect()
        self._notes = self._natural

    def write(self, path: Path) -> None:
        """Write the report."""
        notes = {"natural": self._natural, "forced": self._forced}
        path.write_text(json.dumps({kind: _triples(flat) for kind, flat in notes.items()}))


def _triples(flat: "array[float]") -> list[tuple[float, float, float]]:
    return [(flat[at], flat[at + 1], flat[at + 2]) for at in range(0, len(flat), 3)]


def main() -> None:
    """Run pexpolicy with the recorder installed."""
    watch = Watch()
    report = Path(sys.argv.pop(1))
    gc.callbacks.append(watch.note)
    signal.signal(FORCE, watch.force)
    try:
        runpy.run_module("pexpolicy", run_name="__main__", alter_sys=True)
    finally:
        watch.write(report)


if __name__ == "__main__":
    main()
