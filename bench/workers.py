"""Comparison of two workers with one on two cores; ``python -m bench.workers``.

Rounds alternate between a server with one worker and one with two, so that noise affects both. The
load is not pinned: on two cores it takes CPU time from the servers, which lowers the figure. CPU
time per call shows whether workers slow each other down.
"""

import secrets
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench import cpu, launches, verification
from bench.cores import TooFewCores, serving_and_loading
from bench.findings import Spread
from bench.lab import Lab, Terms
from bench.load import LoadFailed, Target, Totals, WrkMissing, require_wrk, run
from bench.servers import NotServing, Server, running
from bench.traffic import PREPARED

GOAL = 1.7
_FAILURES = (NotServing, verification.VerificationError, LoadFailed, cpu.ThreadEnded)


def measure(lab: Lab, rounds: int, seconds: int) -> tuple[Spread, Mapping[int, Spread]]:
    """Measure calls a second of two workers over those of one, and CPU microseconds per call."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    costs: dict[int, list[float]] = {1: [], 2: []}
    with ExitStack() as stack:
        servers = {count: stack.enter_context(_served(lab, count)) for count in rates}
        targets = {count: lab.target(server, PREPARED) for count, server in servers.items()}
        for server in servers.values():
            verification.check_sample(server, PREPARED, lab.authorization)
        for number in range(-1, rounds):
            for count, server in servers.items():
                before = cpu.reading(server.pid)
                totals = _load(targets[count], seconds)
                spent = cpu.spent(before, cpu.reading(server.pid))
                if number >= 0:
                    rates[count].append(totals.requests / seconds)
                    costs[count].append(spent / totals.requests / 1e3)
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    for count, values in rates.items():
        lab.log(f"{count}: {Spread.of(values).median:,.0f} calls a second")
    return Spread.of(ratios), {count: Spread.of(values) for count, values in costs.items()}


def _served(lab: Lab, count: int) -> AbstractContextManager[Server]:
    config = launches.shipped_config()
    server = config.get("server", {})
    assert isinstance(server, Mapping)
    launch = lab.ours(f"workers-{count}", {**config, "server": {**server, "workers": count}})
    return running(
        launch,
        target=PREPARED.targets[0],
        authorization=lab.authorization,
        core=None,
        log=lab.folder / f"{launch.name}.log",
    )


def _load(target: Target, seconds: int) -> Totals:
    return run([target], seconds=seconds, connections=128, core=None)[target.name]


@click.command()
@click.option("--rounds", default=8, show_default=True, type=click.IntRange(1, 100))
@click.option("--seconds", default=3, show_default=True, type=click.IntRange(1, 60))
def main(rounds: int, seconds: int) -> None:
    """Measure and print the figures; exit code 1 if two workers answer too few calls."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require_wrk()
        cores = serving_and_loading()
    except (WrkMissing, TooFewCores) as error:
        raise click.ClickException(str(error)) from error
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="pexpolicy-workers-") as folder:
        password = secrets.token_urlsafe(16)
        lab = Lab(Path(folder), Terms(), *cores, password, console.print)
        try:
            ratio, costs = measure(lab, rounds, seconds)
        except _FAILURES as error:
            raise click.ClickException(str(error)) from error
    table = Table("what", "median", "quartiles", "goal")
    low, high = f"{ratio.low:.2f}", f"{ratio.high:.2f}"
    table.add_row("two workers over one", f"{ratio.median:.2f}", f"{low} to {high}", f"{GOAL}")
    for count, cost in costs.items():
        what = f"CPU for a call, {count} worker{'s' if count > 1 else ''}"
        table.add_row(what, f"{cost.median:.1f} µs", f"{cost.low:.1f} to {cost.high:.1f} µs", "")
    console.print(table)
    sys.exit(ratio.median < GOAL)


if __name__ == "__main__":
    main(prog_name="python -m bench.workers")
