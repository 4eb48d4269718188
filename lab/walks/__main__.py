"""Print the places of each walk; exit 1 if one passes through too many.

Each walk runs in a process of its own, because the end of a server limits the time of its process.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from lab.walks.walks import MAX_PLACES, WALKS


def main() -> int:
    """Record the walk that is named, or all of them; ``-v`` prints the functions."""
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    names = [word for word in sys.argv[1:] if word in WALKS]
    if len(names) == 1:
        return show(names[0], verbose="-v" in options)
    command = [sys.executable, "-m", "lab.walks", *options]
    return max([subprocess.run([*command, name], check=False).returncode for name in WALKS])


def show(name: str, *, verbose: bool) -> int:
    """Record and print one walk; return 1 if it passes through too many places."""
    with tempfile.TemporaryDirectory(prefix="walks-") as folder:
        walk = asyncio.run(WALKS[name](Path(folder)))
    limit, places = MAX_PLACES[name], walk.places
    sys.stdout.write(
        f"{name}: {len(places)} places (at most {limit}), {len(walk.files)} files, "
        f"{len(walk.functions)} functions: {', '.join(places)}\n"
    )
    for file in walk.files if verbose else ():
        functions = [function for where, function in walk.functions if where == file]
        sys.stdout.write(f"    {file}: {', '.join(functions)}\n")
    sys.stdout.flush()
    return 1 if len(places) > limit else 0


if __name__ == "__main__":
    sys.exit(main())
