"""Garbage collection pauses of a server with many rooms."""

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from bench import launches, verification
from bench.gc_monitor import FORCE
from bench.lab import Lab
from bench.toml import Table
from bench.traffic import Traffic

_FORCE_AFTER = (1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Longest:
    """The longest of ``count`` pauses in seconds of CPU time and of wall-clock time."""

    count: int
    cpu: float
    clock: float


@dataclass(frozen=True)
class Pauses:
    """The pauses since the first reply: natural ones, and forced full collections."""

    natural: Longest
    forced: Longest


def measure(lab: Lab, config: Table, traffic: Traffic, seconds: int) -> Pauses:
    """Serve under load for ``seconds``, then under load with forced full collections."""
    report = lab.folder / "collections.json"
    launch = launches.ours_watched("watched", config, lab.password, lab.folder, report)
    with lab.serve(launch, traffic) as server:
        verification.check_sample(server, traffic, lab.authorization)
        target = lab.target(server, traffic)
        lab.load([target], seconds)
        timers = [threading.Timer(after, os.kill, (server.pid, FORCE)) for after in _FORCE_AFTER]
        for timer in timers:
            timer.start()
        lab.load([target], int(_FORCE_AFTER[-1]) + 1)
        for timer in timers:
            timer.join()
        ended = time.monotonic()
    return _read(report, server.answering_since, ended)


def _read(report: Path, since: float, until: float) -> Pauses:
    notes = json.loads(report.read_text())
    natural, forced = (
        _longest([(cpu, clock) for when, clock, cpu in notes[kind] if since <= when <= until])
        for kind in ("natural", "forced")
    )
    if forced.count != len(_FORCE_AFTER):
        raise verification.VerificationError(
            f"{forced.count} of {len(_FORCE_AFTER)} full collections were made"
        )
    return Pauses(natural, forced)


def _longest(pauses: list[tuple[float, float]]) -> Longest:
    return Longest(
        count=len(pauses),
        cpu=max((cpu for cpu, _ in pauses), default=0.0),
        clock=max((clock for _, clock in pauses), default=0.0),
    )
