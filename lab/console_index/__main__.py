"""Measure the index of the console, and kill its writer: `python -m
lab.console_index [LINES] [KILLS]`; exit code 1 if a limit is exceeded.

Ten million lines need 14 GB in the folder of temporary files, and about ten minutes.
"""

import sys
import tempfile
from pathlib import Path

from lab.console_index import kills, scale

LINES, KILLS = 10_000_000, 100
LINES_OF_KILLS = 300_000
MIN_PER_SECOND = 20_000
MAX_SHARE = 0.4
MAX_MEMORY_MB = 300.0
MAX_SEARCH_S = 0.2
"""For the searches by an alias."""


def main(lines: int, killed: int) -> int:
    """Print what was measured; return 1 if a limit is exceeded."""
    with tempfile.TemporaryDirectory(prefix="console-index-") as folder:
        measured = scale.measure(Path(folder), lines, _say)
    sys.stdout.write("\n".join([*measured.report(), ""]))
    by_alias = [scale.FIRST, *scale.SEARCHES, *(f"counts of {name}" for name in scale.SEARCHES)]
    slowest = max(measured.searches[name] for name in by_alias)
    failed = [
        text
        for text, is_wrong in (
            ("it is indexed too slowly", measured.per_second < MIN_PER_SECOND),
            ("the index is too large", measured.share > MAX_SHARE),
            ("it needs too much memory", measured.memory_mb > MAX_MEMORY_MB),
            ("a search takes too long", slowest > MAX_SEARCH_S),
        )
        if is_wrong
    ]
    with tempfile.TemporaryDirectory(prefix="console-index-") as folder:
        sys.stdout.write(kills.run(Path(folder), killed, LINES_OF_KILLS) + "\n")
    sys.stdout.writelines(f"FAILED: {text}\n" for text in failed)
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*(numbers + [LINES, KILLS][len(numbers) :])[:2]))
