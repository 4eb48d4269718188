"""Command that runs the misbehaving plugins; exit code 1 if anything was wrong."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.chaos.blocked import RATIO_GOAL, Ratio, compare
from lab.chaos.plugins import CASES
from lab.chaos.run import run
from lab.chaos.verdict import Verdict


def main() -> int:
    """Parse the options, run, print a table."""
    options = argparse.ArgumentParser(prog="python -m lab.chaos", description=__doc__)
    options.add_argument("--only", default="", metavar="NAME", help="cases with NAME in theirs")
    options.add_argument(
        "--seconds", type=float, default=0.8, metavar="S", help="load of each case"
    )
    options.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options.add_argument("--rounds", type=int, default=5, help="of the comparison; 0: none")
    chosen = options.parse_args()
    console = Console()
    began = time.monotonic()
    verdicts: list[Verdict] = []
    for case in CASES:
        if chosen.only.lower() in case.name.lower():
            verdict = run(case, chosen.seconds)
            verdicts.append(verdict)
            for text in verdict.wrong:
                console.print(f"{case.name}: {text}", style="red", markup=False)
    ratios = [] if chosen.only and chosen.only != "p99" else compare(chosen.rounds)
    show(console, verdicts, ratios, time.monotonic() - began)
    if chosen.json is not None:
        found = {"cases": [*map(asdict, verdicts)], "blocked": [*map(asdict, ratios)]}
        chosen.json.write_text(json.dumps(found, indent=2))
    late = any(ratio.ratio > RATIO_GOAL for ratio in ratios)
    return 1 if late or any(verdict.wrong for verdict in verdicts) else 0


def show(
    console: Console, verdicts: Sequence[Verdict], ratios: Sequence[Ratio], seconds: float
) -> None:
    """Print the closing tables."""
    table = Table("plugin that", "calls", "max ms", "needing", "max ms", "steps", "end s", "")
    for v in verdicts:
        table.add_row(
            v.name,
            str(v.calls - v.needing),
            f"{v.longest * 1000:.0f}",
            str(v.needing),
            f"{v.longest_needing * 1000:.0f}",
            ", ".join(f"{name} {count}" for name, count in sorted(v.outcomes.items())),
            f"{v.stopping:.1f}",
            "[red]wrong" if v.wrong else "[green]ok",
        )
    console.print(table)
    for ratio in ratios:
        console.print(ratio.sentence, markup=False)
    calls = sum(v.calls for v in verdicts)
    wrong = sum(bool(v.wrong) for v in verdicts)
    longest = max((v.longest for v in verdicts), default=0.0)
    needing = max((v.longest_needing for v in verdicts), default=0.0)
    console.print(
        f"{len(verdicts)} plugins, {calls:,} calls in {seconds:.0f} s; longest call that did not "
        f"need the plugin {longest:.2f} s, that did {needing:.2f} s; wrong: {wrong}"
    )


if __name__ == "__main__":
    sys.exit(main())
