"""Compare a server with a live page of the console and without: `python -m
tests.experiments.console_load [PAIRS] [SECONDS] [RATE]`; exit code 1 if a limit is exceeded.
"""

import sys
import tempfile
from pathlib import Path

from tests.experiments.console_load.run import compare

DEFAULTS = (10, 30, 2000)
"""Pairs of runs, seconds of each, and calls a second: five minutes with the page."""
MAX_RATIO = 1.02


def main(pairs: int, seconds: int, rate: int) -> int:
    """Print what was measured; return 1 if a limit is exceeded."""
    with tempfile.TemporaryDirectory(prefix="console-load-") as folder:
        found = compare(Path(folder), pairs, seconds, rate)
    for live, without in found.pairs:
        sys.stdout.write(
            f"with the page p99 {live.p99:.2f} ms, {live.cpu:.0f} us a call; "
            f"without p99 {without.p99:.2f} ms, {without.cpu:.0f} us a call\n"
        )
    ratios = {name: found.ratio(name) for name in ("p99", "cpu")}
    sys.stdout.write(
        f"medians of the ratios: p99 {ratios['p99']:.3f}, processor time {ratios['cpu']:.3f}\n"
        f"page: {len(found.long_tasks)} tasks over 50 ms {found.long_tasks[:10]}, "
        f"{found.rows} rows, {found.left_out!r}\n"
    )
    return 1 if found.long_tasks or max(ratios.values()) > MAX_RATIO else 0


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*(numbers + list(DEFAULTS)[len(numbers) :])[:3]))
