"""Try to make the audit lose a line; exit with 1 if it does."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.audit import clock, experiments, flood, forged
from lab.audit.server import Finding

Experiment = Callable[[Path], Awaitable[Finding]]


def chosen(options: argparse.Namespace) -> dict[str, Experiment]:
    """Return the experiments, of the size that the options select."""
    n, s = options.rounds, options.seconds
    return {
        "killed": lambda folder: experiments.killed(folder, options.kills, options.calls),
        "shared": lambda folder: experiments.shared(folder, n, options.calls),
        "disk_full": lambda folder: experiments.disk_full(folder, n, 3.0),
        "read_only": lambda folder: experiments.read_only(folder, n, 3.0),
        "deleted": lambda folder: experiments.deleted(folder, n * 3),
        "rotated": lambda folder: experiments.rotated(folder, n * 40, 0.01),
        "logrotate": lambda folder: experiments.logrotate(folder, n * 5),
        "stalled": lambda folder: experiments.stalled(folder, s),
        "killed_with_spool": lambda folder: experiments.killed_with_spool(folder, n, options.calls),
        "clock": lambda folder: clock.jumped(folder, clock.JUMPS_S, 5 * options.calls),
        "forged": forged.forged,
        "flooded": lambda folder: flood.flooded(folder, s),
    }


def main() -> int:
    """Read the options, run, print a table."""
    options = argparse.ArgumentParser(prog="python -m lab.audit", description=__doc__)
    options.add_argument("--only", nargs="*", default=[], metavar="NAME")
    options.add_argument("--kills", type=int, default=200, help="servers that are killed")
    options.add_argument("--calls", type=int, default=1000, help="answers before each kill")
    options.add_argument("--rounds", type=int, default=20, help="of each other fault")
    options.add_argument("--seconds", type=float, default=60.0, help="of a stopped reader, a flood")
    options.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = options.parse_args()
    console = Console()
    findings: list[Finding] = []
    table = Table("experiment", "trials", "answered", "longest call", "seconds", "")
    for name, experiment in chosen(arguments).items():
        if arguments.only and name not in arguments.only:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            finding = asyncio.run(_run(experiment, Path(folder), name))
        findings.append(finding)
        for text in finding.wrong[:20]:
            console.print(f"{finding.name}: {text}", style="red", markup=False)
        table.add_row(
            finding.name,
            finding.trials,
            f"{finding.answered:,}",
            f"{finding.longest * 1000:.0f} ms",
            f"{time.monotonic() - began:.0f}",
            "; ".join(["[red]wrong" if finding.wrong else "[green]ok", *finding.notes]),
        )
    console.print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(finding) for finding in findings], indent=2))
    return 1 if any(finding.wrong for finding in findings) else 0


async def _run(experiment: Experiment, folder: Path, name: str) -> Finding:
    try:
        return await experiment(folder)
    except PermissionError as error:
        return Finding(name, "not run", notes=[str(error)])


if __name__ == "__main__":
    sys.exit(main())
