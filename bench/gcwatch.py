"""Runs the command line of pexpolicy in this interpreter and notes every garbage collection.

Run as ``python -m bench.gcwatch REPORT serve ...``. At the end REPORT holds JSON: ``natural`` and
``forced``, each a list of ``[when, seconds, cpu seconds]``, ``when`` by the monotonic clock. On a
shared machine the seconds hold what other programs took of the core; the CPU seconds do not. The
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
    """Notes collections without making objects that the collector would have to look at."""

    def __init__(self) -> None:
        self._natural = array("d")
        self._forced = array("d")
        self._notes = self._natural
        self._begun = self._spent = 0.0

    def note(self, phase: Literal["start", "stop"], _info: dict[str, int]) -> None:
        """The callback of :data:`gc.callbacks`."""
        if phase == "start":
            self._begun, self._spent = time.monotonic(), time.thread_time()
            return
        seconds, cpu = time.monotonic() - self._begun, time.thread_time() - self._spent
        for figure in (self._begun, seconds, cpu):
            self._notes.append(figure)

    def force(self, _signal: int, _frame: FrameType | None) -> None:
        """Make one full collection now."""
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
    """Become pexpolicy, with the collector watched."""
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
