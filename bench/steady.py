"""Open-loop latency: calls are sent when due, whether or not earlier ones were answered.

A load that waits for each reply before the next call slows down with the server, and so hides what
callers would wait. Here the time of a call counts from when it was due.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.comparison import Contender
from bench.cores import pinned
from bench.findings import Spread
from bench.lab import Lab
from bench.load import LoadFailed
from bench.servers import ROOT

RATE, SECONDS, CONNECTIONS = 1000, 6, 32


@dataclass(frozen=True)
class Latency:
    """Percentiles in milliseconds for each round."""

    p50s: tuple[float, ...]
    p99s: tuple[float, ...]

    @property
    def p50(self) -> float:
        """Return the median of the rounds."""
        return median(self.p50s)

    @property
    def p99(self) -> float:
        """Return the median of the rounds."""
        return median(self.p99s)


def percentiles(lab: Lab, contenders: Sequence[Contender], rounds: int = 5) -> dict[str, Latency]:
    """Measure each server alone at the steady rate, in turn, after a warm-up."""
    taken: dict[str, list[tuple[float, float]]] = {one.name: [] for one in contenders}
    for number in range(rounds + 1):
        for one in contenders:
            figures = _run(lab, one)
            if number:
                taken[one.name].append(figures)
        if number:
            latest = "  ".join(f"{name} p99 {all_[-1][1]:.2f} ms" for name, all_ in taken.items())
            lab.log(f"round {number}/{rounds}: {latest}")
    return {
        name: Latency(*(tuple(each) for each in zip(*figures, strict=True)))
        for name, figures in taken.items()
    }


def ratio(ours: Latency, theirs: Latency) -> Spread:
    """Return the ratio of our 99th percentile to theirs, paired by round."""
    return Spread.of([a / b for a, b in zip(ours.p99s, theirs.p99s, strict=True)])


def _run(lab: Lab, one: Contender) -> tuple[float, float]:
    target = lab.target(one.server, one.traffic)
    command = [sys.executable, "-m", "bench.openloop", str(target.port), str(target.calls)]
    options = [str(RATE), str(SECONDS), str(CONNECTIONS)]
    with pinned(lab.loading_core):
        child = subprocess.Popen([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        printed, _ = child.communicate(timeout=SECONDS + 30)
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
    if child.returncode:
        raise LoadFailed(f"{one.name}: the client ended with status {child.returncode}")
    figures = json.loads(printed)
    return figures["p50_ms"], figures["p99_ms"]
