"""Command that makes calls while the receiver fails; exit code 1 if an event was lost."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from lab.webhook.run import run


def main() -> int:
    """Read the options, run, print the figures."""
    options = argparse.ArgumentParser(prog="python -m lab.webhook", description=__doc__)
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--seconds", type=float, default=8.0, help="of each fault")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--spool-mb", type=int, default=4096)
    options.add_argument("--batch", type=int, default=100)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(
            run(
                Path(folder),
                given.calls,
                seconds=given.seconds,
                workers=given.workers,
                spool_mb=given.spool_mb,
                batch=given.batch,
            )
        )
    console = Console(highlight=False)
    console.print(
        f"{report.answered:,} calls in {report.loading:.0f} s, longest {report.longest:.2f} s; "
        f"{report.recorded:,} decisions in the audit, {report.received:,} received, "
        f"{report.repeated:,} of them again; spool up to {report.peak_mib:.0f} MiB; "
        f"all had arrived {report.catching_up:.0f} s after the last fault"
    )
    console.print(", ".join(f"{fault} {count} times" for fault, count in report.faults.items()))
    for text in report.wrong:
        console.print(f"[red]{text}")
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())
