"""Command that restarts, kills and freezes servers behind HAProxy and NGINX.

The exit code is 1 if a call was lost or late.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from lab.load_balancers import trials
from lab.load_balancers.guards import GUARDS, installed
from lab.load_balancers.load import Tally


def main() -> int:
    """Read the options, run, print one table."""
    options = argparse.ArgumentParser(prog="python -m lab.load_balancers", description=__doc__)
    options.add_argument("--only", choices=GUARDS, help="one guard")
    options.add_argument("--rounds", type=int, default=200, help="restarts of both servers")
    options.add_argument("--drain", type=float, default=0.0, help="drain_delay of the servers")
    options.add_argument("--calls", type=int, default=1000, help="with all servers gone, at least")
    chosen = options.parse_args()
    table = Table("guard", "servers", "calls", "by server", "by guard", "none", "longest s", "")
    wrong = False
    for name in GUARDS if chosen.only is None else [chosen.only]:
        if not installed(name):
            sys.exit(f"{name} is not installed")
        for what, tally, well in trial(name, chosen.rounds, chosen.drain, chosen.calls):
            table.add_row(name, what, *cells(tally), "[green]ok" if well else "[red]wrong")
            wrong |= not well
    Console().print(table)
    return int(wrong)


def trial(name: str, rounds: int, drain: float, calls: int) -> Iterator[tuple[str, Tally, bool]]:
    """The experiments with one guard: what was done, what was seen, whether it is well."""
    guard = GUARDS[name]
    if rounds:
        tally = asyncio.run(trials.restarts(guard, rounds, drain))
        yield f"both restarted {rounds} times", tally, tally.all_by_server
    _, later = asyncio.run(trials.struck(guard, signal.SIGSTOP, 1, calls))
    yield "one frozen, calls after it", later, later.all_by_server
    for what, number in {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}.items():
        under_way, later = asyncio.run(trials.struck(guard, number, 2, calls))
        yield f"both {what}, calls under way", under_way, under_way.all_in_time
        yield f"both {what}, calls after it", later, later.all_by_guard
    silent = asyncio.run(trials.silence(guard, calls))
    yield "both well, but silent", silent, silent.all_by_guard


def cells(tally: Tally) -> list[str]:
    """The figures of one row."""
    counts = [f"{count:,}" for count in (tally.calls, tally.by_server, tally.by_guard)]
    statuses = f" {dict(tally.unread)}" if tally.unread else ""
    return [*counts, f"{tally.unanswered:,}{statuses}", f"{tally.longest:.2f}"]


if __name__ == "__main__":
    sys.exit(main())
