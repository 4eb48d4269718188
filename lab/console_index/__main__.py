"""Measure the index of the console, and kill its writer: `python -m
lab.console_index [LINES] [KILLS]`; exit code 1 if a limit is exceeded.

Ten million lines need 14 GB in the folder of temporary files, and about ten minutes. With
`--pages [AUDITS] [SEED]`, each figure on each page of the console over generated audits is compared
with a count of their lines; a thousand need about 20 minutes.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab.console_index import figures, kills, scale

LINES_OF_KILLS = 300_000


def measured(lines: int = 10_000_000, killed: int = 100) -> Iterator[str]:
    """Yield what was measured, and which limits are exceeded."""
    with tempfile.TemporaryDirectory(prefix="console-index-") as folder:
        yield from scale.measure(Path(folder), lines).report()
    with tempfile.TemporaryDirectory(prefix="console-index-") as folder:
        yield kills.run(Path(folder), killed, LINES_OF_KILLS)


def main(*arguments: str) -> int:
    """Print a report; return 1 if it has failures."""
    numbers, failed = map(int, filter(str.isdigit, arguments)), False
    for text in figures.run(*numbers) if "--pages" in arguments else measured(*numbers):
        sys.stdout.write(f"{text}\n")
        failed |= text.startswith("FAILED")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
