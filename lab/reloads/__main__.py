"""Command that runs the reload experiments; exit code 1 if anything was wrong."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from lab.reloads.background import reload_with_background
from lab.reloads.breakage import offer
from lab.reloads.kills import kill
from lab.reloads.large import reload_many
from lab.reloads.swaps import swap


def main() -> int:
    """Parse the options, run the experiments, print a line for each."""
    options = argparse.ArgumentParser(prog="python -m lab.reloads", description=__doc__)
    options.add_argument("--reloads", type=int, default=1000, metavar="N")
    options.add_argument(
        "--background", type=int, default=500, metavar="N", help="with refreshed data"
    )
    options.add_argument("--files", type=int, default=2000, metavar="N", help="broken ones")
    options.add_argument("--kills", type=int, default=100, metavar="N", help="of workers")
    options.add_argument("--rooms", type=int, default=100_000, metavar="N", help="to reload")
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    chosen = options.parse_args()
    console = Console(soft_wrap=True)
    console.print(f"seed {chosen.seed}")
    wrong = False
    with tempfile.TemporaryDirectory(prefix="reloads-") as folder:

        def place(name: str) -> Path:
            (Path(folder) / name).mkdir(mode=0o700)
            return Path(folder) / name

        if chosen.reloads:
            for name, arguments in (("one", ()), ("two", ("--workers", "2"))):
                swapped = asyncio.run(swap(place(name), chosen.reloads, *arguments))
                console.print(f"{name} worker{'s' * (name == 'two')}: {swapped}")
                for text in swapped.mixed[:5]:
                    console.print(f"  {text}", style="red", markup=False)
                wrong |= swapped.wrong
        if chosen.background:
            wrong |= _background(place, chosen.background, console)
        if chosen.rooms:
            large = asyncio.run(reload_many(place("rooms"), chosen.rooms, 5))
            console.print(str(large))
            wrong |= large.wrong
        if chosen.files:
            found = offer(place("files"), chosen.files, chosen.seed)
            console.print(str(found))
            for text in found.wrong[:5]:
                console.print(f"  {text}", style="red", markup=False)
            wrong |= bool(found.wrong)
        if chosen.kills:
            killed = asyncio.run(kill(place("kills"), chosen.kills, chosen.seed))
            console.print(str(killed))
            wrong |= killed.wrong
    return 1 if wrong else 0


def _background(place: Callable[[str], Path], reloads: int, console: Console) -> bool:
    """Reload with refreshed data, and a fifth as often while its API is down."""
    wrong = False
    for number, first, down in (
        (reloads, "stale", False),
        (reloads // 5, "stale", True),
        (reloads // 5, "required", True),
    ):
        folder = place(f"background-{first}-{down}")
        result = asyncio.run(reload_with_background(folder, number, first, down=down))
        console.print(str(result))
        wrong |= result.wrong
    return wrong


if __name__ == "__main__":
    sys.exit(main())
