"""Compare a server with a live page of the console and without: `python -m
tests.experiments.console_load [PAIRS] [SECONDS] [RATE]`; exit code 1 if a limit is exceeded.
"""

import sys
import tempfile
from pathlib import Path

from tests.experiments.console_load.run import compare

DEFAULTS = (20, 15, 2000)
"""Pairs of runs, seconds of each, and calls a second: five minutes with the page."""
MAX_RATIO = 1.02


def main(pairs: int, seconds: int, rate: int) -> int:
    """Print what was measured; return 1 if a limit is exceeded."""
    with tempfile.TemporaryDirectory(prefix="console-load-") as folder:
        found = compare(Path(folder), pairs, seconds, rate)
    for live, without in found.pairs:
        sys.stdout.write(
            f"with the page p99 {live.p99:.2f} ms, {live.cpu:.0f} us a call; "
            f"without p99 {without.p99:.2f} ms, {without.cpu:.0f} us a call; "
            f"{live.rate:.0f} and {without.rate:.0f} calls a second\n"
        )
    ratios = {name: found.ratio(name) for name in ("p99", "cpu")}
    spreads = ratios.values()
    for name, spread in ratios.items():
        sys.stdout.write(
            f"{name}: {spread.median:.3f} times that without ({spread.low:.3f}-{spread.high:.3f})\n"
        )
    sys.stdout.write(
        f"page: {len(found.long_tasks)} tasks over 50 ms (second, ms) {found.long_tasks[:10]}, "
        f"{found.rows} rows, {found.left_out!r}\n"
    )
    failed = [
        text
        for text, is_wrong in (
            ("tasks of the page take too long", bool(found.long_tasks)),
            ("the console costs the server too much", any(s.median > MAX_RATIO for s in spreads)),
            (f"a run had {found.rate:.0f} calls a second, not {rate}", found.rate < rate),
        )
        if is_wrong
    ]
    sys.stdout.writelines(f"FAILED: {text}\n" for text in failed)
    return 1 if failed else 0


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*(numbers + list(DEFAULTS)[len(numbers) :])[:3]))
