"""Soak test: the growth of memory, descriptors, threads and p99 over millions of mixed calls.

The calls are the recorded ones of ``tests/data/samples.jsonl``, each with a tag of its own, so all
six endpoints, and unknown paths. Between slices of the load the server's memory,
descriptors and threads are read, and each slice tells its 99th percentile. What counts is the slope
after the first half: start-up, caches that fill and pools that grow to their size lie before it.
"""

import json
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import click
from rich.console import Console
from rich.table import Table

from bench import cpu, launches
from bench.cores import TooFewCores, serving_and_loading
from bench.lab import Lab, Terms
from bench.load import LoadFailed, Target, Totals, WrkMissing, require_wrk, run
from bench.servers import ROOT, NotServing, Server
from bench.traffic import TARGETS, Traffic

_SAMPLES = ROOT / "tests" / "data" / "samples.jsonl"
_SLICE_SECONDS = 10
_MIB = 1 << 20
MOST_MIB_PER_MILLION = 1.0
MOST_P99_GROWTH = 1.5
"""Maximum ratio of the 99th percentile in the last quarter to that in the third."""


@dataclass(frozen=True)
class Reading:
    """Resources of the server after ``calls`` calls."""

    calls: int
    rss: int
    descriptors: int
    threads: int
    p99_us: int


@dataclass(frozen=True)
class Verdict:
    """One quantity, and whether it is within its limit."""

    what: str
    figure: str
    limit: str
    met: bool


def mixed() -> Traffic:
    """Return calls of every kind, each with its own alias."""
    samples = [json.loads(line) for line in _SAMPLES.read_text().splitlines()]

    def target(n: int) -> str:
        if n % 20 == 0:
            return f"/elsewhere/{n}"
        sample = samples[n % len(samples)]
        return f"{sample['path']}?{sample['query']}&call_tag=soak{n}"

    return Traffic(tuple(target(n) for n in range(TARGETS)), lambda _n: {})


def slices(lab: Lab, server: Server, traffic: Traffic, requests: int) -> Iterator[Reading]:
    """Load in slices until ``requests`` calls were answered."""
    target = lab.target(server, traffic)
    calls = 0
    while calls < requests:
        totals = _load(lab, target)
        calls += totals.requests
        reading = _read(server.pid, calls, totals.p99_us)
        lab.log(
            f"{calls:>9,} calls  {reading.rss / _MIB:6.1f} MiB  {reading.descriptors} descriptors"
            f"  {reading.threads} threads  p99 {reading.p99_us / 1000:.1f} ms"
        )
        yield reading


def judge(readings: Sequence[Reading]) -> list[Verdict]:
    """Compare the growth in the second half with the limits."""
    half = [one for one in readings if one.calls >= readings[-1].calls / 2]
    growth = _slope([(one.calls / 1e6, one.rss / _MIB) for one in half])
    quarter = max(1, len(half) // 2)
    before, last = (
        median(one.p99_us for one in part) for part in (half[:quarter], half[-quarter:])
    )
    return [
        Verdict(
            "memory per million calls",
            f"{growth:+.2f} MiB",
            f"at most {MOST_MIB_PER_MILLION:g} MiB",
            growth <= MOST_MIB_PER_MILLION,
        ),
        _flat("descriptors", [one.descriptors for one in half]),
        _flat("threads", [one.threads for one in half]),
        Verdict(
            "p99, last quarter over third quarter",
            f"{last / before:.2f} x",
            f"at most {MOST_P99_GROWTH:g} x",
            last / before <= MOST_P99_GROWTH,
        ),
    ]


def _flat(what: str, held: Sequence[int]) -> Verdict:
    """Compare the early and the late minimum, because connections vary in between."""
    middle = max(1, len(held) // 2)
    early, late = min(held[:middle]), min(held[-middle:])
    return Verdict(what, f"{early}, then {late}", "no growth", late <= early)


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope."""
    x0, y0 = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((x - x0) ** 2 for x, _ in points)
    return sum((x - x0) * (y - y0) for x, y in points) / spread if spread else 0.0


def _load(lab: Lab, target: Target) -> Totals:
    return run(
        [target],
        seconds=_SLICE_SECONDS,
        connections=lab.terms.connections,
        core=lab.loading_core,
        any_status=True,
    )[target.name]


def _read(pid: int, calls: int, p99_us: int) -> Reading:
    folder = Path("/proc", str(pid))
    return Reading(
        calls,
        cpu.memory(pid).rss,
        len(list((folder / "fd").iterdir())),
        len(list((folder / "task").iterdir())),
        p99_us,
    )


@click.command()
@click.option("--requests", default=2_000_000, show_default=True, type=click.IntRange(10_000))
def main(requests: int) -> None:
    """Serve REQUESTS mixed calls and print the growth; exit code 1 if a limit is exceeded."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require_wrk()
        cores = serving_and_loading()
    except (WrkMissing, TooFewCores) as error:
        raise click.ClickException(str(error)) from error
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="pexpolicy-soak-") as folder:
        password = secrets.token_urlsafe(16)
        lab = Lab(Path(folder), Terms(), *cores, password, console.print)
        traffic = mixed()
        launch = lab.ours("soak", launches.shipped_config())
        try:
            with lab.serve(launch, traffic.starting_with(1)) as server:
                verdicts = judge(list(slices(lab, server, traffic, requests)))
        except (NotServing, LoadFailed) as error:
            raise click.ClickException(str(error)) from error
    table = Table("what", "figure", "goal", "")
    for one in verdicts:
        table.add_row(one.what, one.figure, one.limit, "met" if one.met else "[bold red]missed")
    console.print(table)
    sys.exit(not all(one.met for one in verdicts))


if __name__ == "__main__":
    main(prog_name="python -m bench.soak")
