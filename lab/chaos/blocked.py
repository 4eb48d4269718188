"""Comparison of p99 with and without a plugin that blocks on each of its calls.

Two servers run at the same time and are called in turn, so that both share the same conditions.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.chaos.case import Case, hook
from lab.chaos.load import NEEDS
from lab.chaos.target import Target

RATIO_GOAL = 2.0
ROUND = 2.0
"""Seconds of one round."""
TABLE = "timeout = 1.0"
BLOCKED = (
    Case("def hook", hook("time.sleep(10)", blocks=True), TABLE),
    Case(
        "async def hook under isolation = process",
        hook("time.sleep(10)"),
        f'{TABLE}\nisolation = "process"',
    ),
)


@dataclass(frozen=True)
class Ratio:
    """p99 in milliseconds of calls that do not need the plugin, with and without it."""

    name: str
    calls: int
    baseline: float
    blocked: float
    longest: float

    @property
    def ratio(self) -> float:
        return self.blocked / self.baseline

    @property
    def sentence(self) -> str:
        return (
            f"{self.name} that blocks 10 s on each call: p99 of {self.calls:,} other calls "
            f"{self.blocked:.2f} ms, without it {self.baseline:.2f} ms ({self.ratio:.2f} times, "
            f"goal {RATIO_GOAL:.0f}); max {self.longest:.1f} ms"
        )


def compare(rounds: int) -> list[Ratio]:
    """Compare for each blocking plugin, in ``rounds`` rounds."""
    return [_compare(case, rounds) for case in BLOCKED] if rounds else []


def _compare(case: Case, rounds: int) -> Ratio:
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        without = Target(None, Path(folder) / "without")
        with_plugin = Target(case, Path(folder) / "with_plugin")
        targets = (without, with_plugin)
        started: list[Target] = []
        seen: dict[Target, list[float]] = {target: [] for target in targets}
        try:
            for target in targets:
                started.append(target)
                assert target.start(), target.output
            for number in range(rounds):
                for target in targets if number % 2 else targets[::-1]:
                    calls = target.under_load(ROUND, needing=4, others=4, pause=0.01)
                    seen[target] += [c.seconds * 1000 for c in calls if c.kind != NEEDS]
        finally:
            for target in started:
                target.stop()
        return Ratio(
            case.name,
            len(seen[with_plugin]),
            p99(seen[without]),
            p99(seen[with_plugin]),
            max(seen[with_plugin]),
        )


def p99(values: Sequence[float]) -> float:
    """Return the value that 1 % of the values exceed."""
    return sorted(values)[int(len(values) * 0.99)]
