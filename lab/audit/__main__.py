"""Try to make the audit lose a line; exit with 1 if it does."""

import argparse
import sys

from lab import report
from lab.audit import clock, experiments, flood, forged, ship


def main() -> int:
    """Read the options, run, print a table."""
    options = argparse.ArgumentParser(prog="python -m lab.audit", description=__doc__)
    options.add_argument("--only", nargs="*", default=[], metavar="NAME")
    options.add_argument("--kills", type=int, default=200, help="servers that are killed")
    options.add_argument("--calls", type=int, default=1000, help="answers before each kill")
    options.add_argument("--rounds", type=int, default=20, help="of each other fault")
    options.add_argument("--seconds", type=float, default=60.0, help="of a stopped reader, a flood")
    given = options.parse_args()
    n, s, calls = given.rounds, given.seconds, given.calls
    return report.run(
        {
            "killed": lambda folder: experiments.killed(folder, given.kills, calls),
            "shared": lambda folder: experiments.shared(folder, n, calls),
            "disk_full": lambda folder: experiments.disk_full(folder, n, 3.0),
            "read_only": lambda folder: experiments.read_only(folder, n, 3.0),
            "deleted": lambda folder: experiments.deleted(folder, n * 3),
            "rotated": lambda folder: experiments.rotated(folder, n * 40, 0.01),
            "logrotate": lambda folder: experiments.logrotate(folder, n * 5),
            "stalled": lambda folder: experiments.stalled(folder, s),
            "killed_with_spool": lambda folder: experiments.killed_with_spool(folder, n, calls),
            "clock": lambda folder: clock.jumped(folder, clock.JUMPS_S, 5 * calls),
            "forged": forged.forged,
            "shipped": lambda folder: ship.crashed(folder, given.kills // 2, calls // 4),
            "database_frozen": lambda folder: ship.frozen(folder, 10 * s),
            "flooded": lambda folder: flood.flooded(folder, s),
        },
        given.only,
    )


if __name__ == "__main__":
    sys.exit(main())
