"""Measure the index of the console, and kill its writer: `python -m
lab.console_index [LINES] [KILLS]`; exit code 1 if a limit is exceeded.

Ten million lines need 14 GB in the folder of temporary files, and about ten minutes.
"""

import sys
import tempfile
from pathlib import Path

from lab.console_index import kills, scale

LINES_OF_KILLS = 300_000


def main(lines: int = 10_000_000, killed: int = 100) -> int:
    """Print what was measured; return 1 if a limit is exceeded."""
    with tempfile.TemporaryDirectory(prefix="console-index-") as folder:
        report = list(scale.measure(Path(folder), lines).report())
    sys.stdout.writelines(f"{text}\n" for text in report)
    with tempfile.TemporaryDirectory(prefix="console-index-") as folder:
        sys.stdout.write(kills.run(Path(folder), killed, LINES_OF_KILLS) + "\n")
    return int(any(text.startswith("FAILED") for text in report))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
