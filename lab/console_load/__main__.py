"""Compare a server with a live page of the console and without: `python -m
lab.console_load [ROUNDS] [SECONDS] [RATE]`; exit code 1 if a limit is exceeded.

A round is one run with the page and two without, whose ratio is what the machine itself varies.
Twenty rounds take about 18 minutes.
"""

import sys
import tempfile
from pathlib import Path

from lab.console_load.run import compare


def main(rounds: int = 20, seconds: int = 15, rate: int = 2000) -> int:
    """Print what was measured; return 1 if a limit is exceeded."""
    with tempfile.TemporaryDirectory(prefix="console-load-") as folder:
        found = compare(Path(folder), rounds, seconds, rate)
    failed = found.failed(rate)
    lines = [*found.report(), *(f"FAILED: {text}" for text in failed)]
    sys.stdout.writelines(f"{text}\n" for text in lines)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
