"""Command that fuzzes the server over raw sockets; exit code 1 if anything was found."""

import argparse
import sys
from pathlib import Path

from lab.fuzz.grammar import Grammar
from lab.fuzz.run import Plan, Result, run


def main() -> int:
    """Parse the options, run, print a summary."""
    plan = Plan()
    options = argparse.ArgumentParser(prog="python -m lab.fuzz", description=__doc__)
    options.add_argument("--requests", type=int, default=plan.requests, metavar="N")
    options.add_argument("--seed", type=int, default=plan.seed)
    options.add_argument("--seconds", type=float, default=plan.seconds, help="bound of the run")
    options.add_argument("--connections", type=int, default=plan.connections)
    options.add_argument("--config", type=Path, help="another configuration for the server")
    options.add_argument("--only", type=int, metavar="N", help="print the bytes of case N")
    chosen = options.parse_args()
    if chosen.only is not None:
        case = Grammar(chosen.seed).case(chosen.only)
        report(f"case {case.number} ({case.kind})\n{case.wire!r}")
        return 0
    options_of_plan = vars(chosen)
    del options_of_plan["only"]
    plan = Plan(**options_of_plan)
    result = run(plan, report)
    for line in summary(plan, result):
        report(line)
    return 1 if result.tally.findings else 0


def report(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def summary(plan: Plan, result: Result) -> list[str]:
    """Describe a run in a few lines."""
    tally = result.tally
    replies = ", ".join(f"{status} {count:,}" for status, count in sorted(tally.statuses.items()))
    closed = ", ".join(f"{kind} {count:,}" for kind, count in tally.closed.most_common(6))
    speed = f"{result.elapsed:.0f} s, {result.rate:,.0f}/s, {tally.connections:,} connections"
    before, after = result.memory[0][1], result.memory[-1][1]
    slope = f"second half {result.growth:+.1f} MiB a million"
    opened, left = result.open_files
    lines = [
        f"{tally.done:,} requests (seed {plan.seed}) in {speed}",
        f"replies: {replies}; judged by the oracle: {tally.judged:,}",
        f"closed without a reply: {sum(tally.closed.values()):,} ({closed})",
        f"memory: {before:.1f} to {after:.1f} MiB, {slope}; open files {opened} to {left}",
    ]
    if tally.done < plan.requests:
        lines.append(f"time was up after {tally.done:,} of {plan.requests:,} requests")
    for what, count in tally.findings.most_common():
        lines += [f"FOUND {count:,} x {what}", *(f"    {one}" for one in tally.examples[what])]
    lines.append("found nothing" if not tally.findings else "see above")
    return lines


if __name__ == "__main__":
    sys.exit(main())
