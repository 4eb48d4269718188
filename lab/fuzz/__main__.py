"""Command that fuzzes the server over raw sockets; exit code 1 if anything was found."""

import argparse
import sys

from lab.fuzz.grammar import Grammar
from lab.fuzz.run import run, say


def main() -> int:
    """Parse the options, run, print a summary."""
    options = argparse.ArgumentParser(prog="python -m lab.fuzz", description=__doc__)
    options.add_argument("--requests", type=int, default=1_000_000, metavar="N")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--seconds", type=float, default=1800.0, help="bound of the run")
    options.add_argument("--connections", type=int, default=32)
    options.add_argument("--only", type=int, metavar="N", help="print the bytes of case N")
    chosen = options.parse_args()
    if chosen.only is not None:
        case = Grammar(chosen.seed).case(chosen.only)
        say(f"case {case.number} ({case.kind})\n{case.wire!r}")
        return 0
    tally = run(chosen.requests, chosen.seed, chosen.seconds, chosen.connections)
    for line in tally.summary(chosen.requests):
        say(line)
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
