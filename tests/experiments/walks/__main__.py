"""Print the places of each walk; exit 1 if one passes through too many."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.experiments.walks.walks import MAX_PLACES, WALKS


def main() -> int:
    """Record every walk, and print a line for each."""
    failed = False
    for name, record in WALKS.items():
        with tempfile.TemporaryDirectory(prefix="walks-") as folder:
            walk = asyncio.run(record(Path(folder)))
        limit, places = MAX_PLACES[name], walk.places
        failed |= len(places) > limit
        sys.stdout.write(
            f"{name}: {len(places)} places (at most {limit}), {len(walk.files)} files, "
            f"{len(walk.functions)} functions: {', '.join(places)}\n"
        )
        if "-v" in sys.argv:
            for file in walk.files:
                functions = [function for where, function in walk.functions if where == file]
                sys.stdout.write(f"    {file}: {', '.join(functions)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
