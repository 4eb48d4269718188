"""Findings: measured figures and their limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median, quantiles


@dataclass(frozen=True)
class Spread:
    """Median of the measurements and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Compute the spread of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, _, high = quantiles(values, n=4, method="inclusive")
        return cls(median(values), low, high)


class Verdict(Enum):
    """The relation of a figure to its limit."""

    MET = "met"
    MISSED = "missed"
    AIM_MET = "aim met"
    AIM_MISSED = "aim missed"
    NONE = ""


@dataclass(frozen=True)
class Limit:
    """The largest or the smallest figure allowed. Only a missed goal fails the benchmark."""

    bound: float
    goal: bool = True
    smallest: bool = False

    def __str__(self) -> str:
        return f"{'at least' if self.smallest else 'at most'} {self.bound:g}"

    def verdict(self, figure: float) -> Verdict:
        """Return whether ``figure`` is within the limit."""
        met = figure >= self.bound if self.smallest else figure <= self.bound
        if self.goal:
            return Verdict.MET if met else Verdict.MISSED
        return Verdict.AIM_MET if met else Verdict.AIM_MISSED


def goal(most: float) -> Limit:
    """Return an upper limit that must be met."""
    return Limit(most)


def at_least(bound: float) -> Limit:
    """Return a lower limit that must be met."""
    return Limit(bound, smallest=True)


def aim(most: float) -> Limit:
    """Return an upper limit that should be met."""
    return Limit(most, goal=False)


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    scenario: str
    what: str
    figure: Spread
    unit: str
    limit: Limit | None = None
    detail: str = ""

    @property
    def verdict(self) -> Verdict:
        """Compare the median with the limit."""
        return self.limit.verdict(self.figure.median) if self.limit else Verdict.NONE


def single(figure: float) -> Spread:
    """Return the spread of a figure measured once."""
    return Spread.of([figure])
