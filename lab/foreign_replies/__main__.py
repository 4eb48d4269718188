"""Read many generated replies three times each, and say who disagrees."""

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from lab.foreign_replies.run import BATCH, Tally, batch


def main() -> int:
    """Exit code 1 when a reply is read as something else than the contract says."""
    parser = argparse.ArgumentParser(prog="python -m lab.foreign_replies", description=__doc__)
    parser.add_argument("--replies", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first batch")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + -(-arguments.replies // BATCH))
    total, began = Tally(), time.monotonic()
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=fresh) as pool:
        for tally in pool.map(batch, seeds):
            total.outcomes += tally.outcomes
            total.rows |= tally.rows
            total.wrong += tally.wrong
    sys.stdout.write(
        f"{total.outcomes.total()} replies, seeds {seeds[0]} to {seeds[-1]}, "
        f"{len(total.rows)} combinations, {time.monotonic() - began:.0f} s\n"
        f"outcomes: {dict(total.outcomes)}\nread wrongly: {len(total.wrong)}\n"
    )
    for text in total.wrong[:20]:
        sys.stdout.write(text.encode("ascii", "backslashreplace").decode() + "\n")
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
