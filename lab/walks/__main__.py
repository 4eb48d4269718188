"""Print the files of each walk; exit 1 if one enters too many. ``-v`` prints their functions.

Each walk runs in a process of its own, because the end of a server limits the time of its process.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from lab.walks.walks import MAX_FILES, WALKS


def main() -> int:
    """Record the walk that is named, or all of them; ``-v`` prints the functions."""
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    names = [word for word in sys.argv[1:] if word in WALKS]
    if len(names) == 1:
        return show(names[0], verbose="-v" in options)
    command = [sys.executable, "-m", "lab.walks", *options]
    return max([subprocess.run([*command, name], check=False).returncode for name in WALKS])


def show(name: str, *, verbose: bool) -> int:
    """Record and print one walk; return 1 if it enters too many files."""
    with tempfile.TemporaryDirectory(prefix="walks-") as folder:
        walk = asyncio.run(WALKS[name](Path(folder)))
    limit, files = MAX_FILES[name], walk.files
    places = ", ".join(dict.fromkeys(file.partition("/")[0] for file in files))
    sys.stdout.write(
        f"{name}: {len(files)} files (at most {limit}), {len(walk.functions)} functions: {places}\n"
    )
    for file in walk.files if verbose else ():
        functions = [function for where, function in walk.functions if where == file]
        sys.stdout.write(f"    {file}: {', '.join(functions)}\n")
    sys.stdout.flush()
    return 1 if len(files) > limit else 0


if __name__ == "__main__":
    sys.exit(main())
