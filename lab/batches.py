"""Batches of generated things in processes, one seed each, and what became of all."""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

BATCH = 5000


@dataclass
class Tally:
    """Counts by their title, and each thing that was wrong."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def count(self, title: str, what: str) -> None:
        """Count one."""
        self.counts.setdefault(title, Counter())[what] += 1


def main(batch: Callable[[int], Tally], program: str, description: str | None) -> int:
    """Read the options, run the batches, print the counts; return 1 if something was wrong."""
    options = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    options.add_argument("--count", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=int(time.time()), help="of the first batch")
    options.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = options.parse_args()
    seeds = range(given.seed, given.seed + -(-given.count // BATCH))
    total, began = Tally(), time.monotonic()
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.processes, mp_context=fresh) as pool:
        for tally in pool.map(batch, seeds):
            total.wrong += tally.wrong
            for title, counts in tally.counts.items():
                total.counts.setdefault(title, Counter()).update(counts)
    lines = [f"seeds {seeds[0]} to {seeds[-1]}, {time.monotonic() - began:.0f} s"]
    for title, counts in total.counts.items():
        lines.append(f"{title}: {counts.total():,}: {dict(counts)}")
    lines += [f"wrong: {len(total.wrong)}", *total.wrong[:20]]
    for line in lines:
        sys.stdout.write(line.encode("ascii", "backslashreplace").decode() + "\n")
    return int(bool(total.wrong))
