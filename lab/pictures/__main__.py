"""Command that tries the plugin `avatars`; exit code 1 if a file outside of its folder was opened,
or a call was late.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from lab.pictures import faults
from lab.pictures.run import calls_per_second, paths_opened_outside

LATE_S = 4.0


def main() -> int:
    """Read the options, run, print the figures."""
    options = argparse.ArgumentParser(prog="python -m lab.pictures", description=__doc__)
    options.add_argument("--texts", type=int, default=100_000)
    options.add_argument("--seconds", type=int, default=10, help="of the load on cached pictures")
    given = options.parse_args()
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as made:
        found, outside = paths_opened_outside(Path(made), given.texts)
    console.print(
        f"{given.texts:,} texts: {found:,} pictures in the folder, {len(outside)} files outside"
    )
    with tempfile.TemporaryDirectory() as made:
        of_cpu, of_clock = calls_per_second(Path(made), given.seconds)
    console.print(
        f"{of_cpu:,.0f} cached pictures a second of CPU time, {of_clock:,.0f} of the clock"
    )
    with tempfile.TemporaryDirectory() as made:
        report = faults.run(Path(made))
    console.print(
        f"{report.calls:,} calls while the web server was frozen and killed: longest "
        f"{report.longest:.2f} s, {report.pictures:,} pictures, {report.stale:,} of them from the "
        f"cache during a fault; pictures for all {report.recovery:.2f} s after the end of a fault"
    )
    return bool(outside) or report.longest > LATE_S


if __name__ == "__main__":
    sys.exit(main())
