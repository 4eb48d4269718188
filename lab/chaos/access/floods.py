"""Command that runs the floods of refused requests one after the other, and prints one table.

``bodies``: compressed bodies of 200 MB. ``heads``: heads that do not end. ``requests``: unknown
paths on kept connections, as fast as they are answered. ``unauthorised``: the same without
credentials. Five nodes call for the same time without and with each flood. Exit code 1 if a call
was late or lost, its 99th percentile was more than three times as long (of 5 ms at least), memory
grew by more than 100 MiB, a decision is not on record or a refusal is not counted.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lab.chaos.access.flood import Flood
from lab.chaos.access.nodes import CALL_TIMEOUT_S
from lab.chaos.access.run import run_flood

ATTACKERS = {"bodies": 40, "heads": 60, "requests": 1, "unauthorised": 1}
"""Connections at once, by flood; as many as stopped a server without limits."""
COLUMNS = {
    "flood": "",
    "attackers": "",
    "ended": "requests of attackers that were answered, or their connection closed",
    "counted": "refusals on record",
    "calls": "with the flood",
    "late": "or not answered",
    "p99": "ms, with the flood",
    "without": "the same without it",
    "ratio": "",
    "longest": "ms",
    "memory": "MiB before, at most and after the flood",
    "missing": "decisions that are not on record, of all",
}


def table_row(flood: Flood) -> dict[str, str]:
    """Return the figures of a flood by column."""
    calls, quiet = flood.calls, flood.quiet
    p99, without = calls.percentile(0.99), quiet.percentile(0.99)
    ended = sum(count for outcome, count in flood.replies.items() if outcome != "held")
    late = sum(one > CALL_TIMEOUT_S for one in calls.seconds) + len(calls.failed)
    return {
        "flood": flood.kind,
        "attackers": str(flood.attackers),
        "ended": f"{ended:,}",
        "counted": f"{flood.on_record:,}",
        "calls": f"{len(calls.seconds):,}",
        "late": str(late),
        "p99": f"{p99 * 1000:.1f}",
        "without": f"{without * 1000:.1f}",
        "ratio": f"{p99 / without:.1f}" if without else "-",
        "longest": f"{calls.longest * 1000:.0f}",
        "memory": "/".join(f"{mib:.0f}" for mib in flood.memory),
        "missing": f"{flood.missing} of {len(calls.ids) + len(quiet.ids):,}",
    }


def table(rows: list[Mapping[str, str]]) -> str:
    """Return rows with their heading, the columns aligned."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in COLUMNS}
    lines = [dict(zip(COLUMNS, COLUMNS, strict=True)), *rows]
    return "".join(
        "  ".join(row[name].rjust(width) for name, width in widths.items()).rstrip() + "\n"
        for row in lines
    )


async def run(times: int, seconds: float, kinds: list[str]) -> list[Flood]:
    """Run these floods, each of ``times`` the attackers, against a server of its own."""
    floods = []
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="floods-") as folder:
            floods.append(await run_flood(Path(folder), kind, times * ATTACKERS[kind], seconds))
    return floods


def main() -> int:
    """Parse the options, run the floods, print the table and what was wrong."""
    options = argparse.ArgumentParser(prog="python -m lab.chaos.access.floods", description=__doc__)
    options.add_argument("--times", type=int, default=10, help="multiple of the attackers")
    options.add_argument("--seconds", type=float, default=60.0, help="with and without each flood")
    options.add_argument("--only", choices=ATTACKERS, action="append")
    chosen = options.parse_args()
    floods = asyncio.run(run(chosen.times, chosen.seconds, chosen.only or list(ATTACKERS)))
    sys.stdout.write(table([table_row(flood) for flood in floods]))
    explained = (f"{name}: {meaning}" for name, meaning in COLUMNS.items() if meaning)
    sys.stdout.write("; ".join(explained) + "\n")
    wrong = [f"{flood.kind}: {text}\n" for flood in floods for text in sorted(set(flood.wrong()))]
    sys.stdout.writelines(f"wrong: {text}" for text in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
