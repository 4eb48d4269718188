"""Drive many generated decisions through the chain, and say what came of them."""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from lab.generated_decisions.drive import BATCH, Tally, batch


def with_progress(tallies: Iterable[Tally]) -> Iterator[Tally]:
    """The same, with the progress on standard error."""
    began = time.monotonic()
    for number, tally in enumerate(tallies, 1):
        if sys.stderr.isatty():
            rate = number * BATCH / (time.monotonic() - began)
            sys.stderr.write(f"\r{number * BATCH} decisions, {rate:.0f} a second ")
        yield tally


def main() -> int:
    """Exit code 1 when a reply or a step is wrong."""
    parser = argparse.ArgumentParser(prog="python -m lab.generated_decisions", description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first batch")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + -(-arguments.decisions // BATCH))
    total = Tally()
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=fresh) as pool:
        for tally in with_progress(pool.map(batch, seeds)):
            total.steps += tally.steps
            total.replies += tally.replies
            total.wrong += tally.wrong
    sys.stdout.write(
        f"{total.steps.total()} decisions, seeds {seeds[0]} to {seeds[-1]}\n"
        f"steps: {dict(total.steps)}\nreplies: {dict(total.replies)}\n"
        f"wrong: {len(total.wrong)}\n"
    )
    for text in total.wrong[:20]:
        sys.stdout.write(text.encode("ascii", "backslashreplace").decode() + "\n")
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
