"""Command that runs the reload experiments; exit code 1 if anything was wrong."""

import argparse
import sys
import time

from lab import report
from lab.reloads.background import reload_with_background
from lab.reloads.breakage import offer
from lab.reloads.experiments import kill, reload_large, swap


def main() -> int:
    """Parse the options, run the experiments, print a table."""
    options = argparse.ArgumentParser(prog="python -m lab.reloads", description=__doc__)
    options.add_argument("--only", nargs="*", default=[], metavar="NAME")
    options.add_argument("--reloads", type=int, default=1000, help="half as many with data")
    options.add_argument("--files", type=int, default=2000, help="broken ones")
    options.add_argument("--kills", type=int, default=100, help="of workers")
    options.add_argument("--rooms", type=int, default=100_000, help="to reload")
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = options.parse_args()
    n, data = given.reloads, reload_with_background
    return report.run(
        {
            "one": lambda folder: swap(folder, n),
            "two": lambda folder: swap(folder, n, "--workers", "2"),
            "stale": lambda folder: data(folder, n // 2, "stale", down=False),
            "stale-down": lambda folder: data(folder, n // 10, "stale", down=True),
            "required-down": lambda folder: data(folder, n // 10, "required", down=True),
            "rooms": lambda folder: reload_large(folder, given.rooms, 5),
            "files": lambda folder: offer(folder, given.files, given.seed),
            "kills": lambda folder: kill(folder, given.kills, given.seed),
        },
        given.only,
    )


if __name__ == "__main__":
    sys.exit(main())
