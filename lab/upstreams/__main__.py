"""Command that loads a server with broken targets; exit code 1 if anything was wrong."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.upstreams.broken import KINDS
from lab.upstreams.chaos import TIMEOUT, Figures, server_with_targets

PAUSE = 0.3
"""Seconds between two calls to one target when all are broken at once, because two cores have to
send what all targets send.
"""
SATURATED = 1.0
"""Maximum seconds of a call to the sound target in that case."""


async def measure(seconds: float, together: float, folder: Path) -> tuple[list[Figures], str]:
    """Measure without broken targets, with each of them, and with all at once."""
    async with server_with_targets(KINDS, folder) as server:
        found = [await server.load("none, before", [], seconds=seconds * 2)]
        descriptors, memory = server.descriptors, server.memory
        found += [await server.load(kind.name, [kind], seconds=seconds) for kind in KINDS]
        all_of_them = server.load(
            "all at once", KINDS, each=1, seconds=together, pause=PAUSE, limit=SATURATED
        )
        found.append(await all_of_them)
        # Connections whose callers have timed out close within their own timeout.
        await asyncio.sleep(1.0)
        found.append(await server.load("none, after", [], seconds=seconds * 2))
        resources = (
            f"descriptors {descriptors} before and {server.descriptors} after, "
            f"memory {memory} and {server.memory} MiB"
        )
    return found, resources


def main() -> int:
    """Parse the options, run, print a table."""
    options = argparse.ArgumentParser(prog="python -m lab.upstreams", description=__doc__)
    options.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of each kind")
    options.add_argument("--together", type=float, default=15.0, metavar="S", help="of all at once")
    chosen = options.parse_args()
    console = Console()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="upstreams-") as folder:
        found, resources = asyncio.run(measure(chosen.seconds, chosen.together, Path(folder)))
    table = Table("target that", "calls", "max ms", "others", "p99 ms", "max ms", "")
    for f in found:
        table.add_row(
            f.name,
            str(f.needing),
            f"{f.needing_longest * 1000:.0f}",
            str(f.others),
            f"{f.others_p99 * 1000:.1f}",
            f"{f.others_longest * 1000:.0f}",
            "[red]wrong" if f.wrong else "[green]ok",
        )
    console.print(table)
    for f in found:
        for text in f.wrong:
            console.print(f"{f.name}: {text}", style="red", markup=False)
    calls = sum(f.needing + f.others for f in found)
    longest = max(f.needing_longest for f in found)
    console.print(
        f"{len(KINDS)} broken targets, {calls:,} calls in {time.monotonic() - began:.0f} s; "
        f"longest call to one {longest:.2f} s (timeout {TIMEOUT:g} s), to a sound one "
        f"{max(f.others_longest for f in found):.2f} s; {resources}; "
        f"wrong: {sum(bool(f.wrong) for f in found)}"
    )
    return 1 if any(f.wrong for f in found) else 0


if __name__ == "__main__":
    sys.exit(main())
