"""Command that runs the experiments with events and limits; exit code 1 if anything was wrong."""

import argparse
import sys
import time
from functools import partial

from lab import report
from lab.live.flood import costs, flooded
from lab.live.kills import kill
from lab.live.outage import outage
from tests.support.site import ENGINES


def main() -> int:
    """Parse the options, run the experiments, print a table."""
    options = argparse.ArgumentParser(prog="python -m lab.live", description=__doc__)
    options.add_argument("--only", nargs="*", default=[], metavar="NAME")
    options.add_argument("--kills", type=int, default=1000)
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seconds", type=int, default=60, help="of a round")
    options.add_argument("--events", type=int, default=1_000_000)
    options.add_argument("--calls", type=int, default=2000, help="of which the cost is measured")
    given = options.parse_args()
    kills = partial(kill, kills=given.kills, seed=given.seed)
    priced = partial(costs, calls=given.calls, tenants=(1, 10_000))
    return report.run(
        {
            **{engine: partial(kills, engine=engine) for engine in ENGINES},
            "outage": lambda folder: outage(folder, 10.0, given.rounds),
            "events": lambda folder: flooded(
                folder, given.events, given.rounds, 1000, given.seconds
            ),
            **{f"cost-{engine}": partial(priced, engine=engine) for engine in ENGINES},
        },
        given.only,
    )


if __name__ == "__main__":
    sys.exit(main())
