"""Command that restarts, kills and freezes servers behind HAProxy and NGINX.

The exit code is 1 if a call was lost or late.
"""

import argparse
import signal
import sys
from functools import partial
from pathlib import Path

from lab import report
from lab.load_balancers import trials
from lab.load_balancers.guards import GUARDS, installed
from lab.load_balancers.load import Tally
from lab.report import Finding


def main() -> int:
    """Read the options, run, print one table."""
    options = argparse.ArgumentParser(prog="python -m lab.load_balancers", description=__doc__)
    options.add_argument("--only", choices=GUARDS, help="one guard")
    options.add_argument("--rounds", type=int, default=200, help="restarts of both servers")
    options.add_argument("--drain", type=float, default=0.0, help="drain_delay of the servers")
    options.add_argument("--calls", type=int, default=1000, help="with all servers gone, at least")
    given = options.parse_args()

    async def trial(name: str, _: Path) -> Finding:
        if not installed(name):
            raise PermissionError(f"{name} is not installed")
        guard, finding = GUARDS[name], Finding(name, f"{given.rounds} restarts")

        def expect(what: str, tally: Tally, well: bool) -> None:
            finding.answered += tally.calls
            finding.longest = max(finding.longest, tally.longest)
            finding.expect(well, f"{what}: {tally}")

        restarted = await trials.restarts(guard, given.rounds, given.drain)
        expect("restarted", restarted, restarted.all_by_server)
        later = (await trials.struck(guard, signal.SIGSTOP, 1, given.calls))[1]
        expect("one frozen, calls after it", later, later.all_by_server)
        for number in (signal.SIGKILL, signal.SIGSTOP):
            under_way, later = await trials.struck(guard, number, 2, given.calls)
            expect(f"both {number.name}, calls under way", under_way, under_way.all_in_time)
            expect(f"both {number.name}, calls after it", later, later.all_by_guard)
        silent = await trials.silence(guard, given.calls)
        expect("both well, but silent", silent, silent.all_by_guard)
        return finding

    names = [given.only] if given.only else list(GUARDS)
    return report.run({name: partial(trial, name) for name in names})


if __name__ == "__main__":
    sys.exit(main())
