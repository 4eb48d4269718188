"""A measured figure beside the figure to reach."""

from dataclasses import dataclass
from enum import Enum

from bench.spread import Spread


class Verdict(Enum):
    """How a figure stands to its limit."""

    MET = "met"
    MISSED = "missed"
    AIM_MET = "aim met"
    AIM_MISSED = "aim missed"
    NONE = ""


@dataclass(frozen=True)
class Limit:
    """The largest figure allowed, or the smallest. An aim is shown; only a goal makes the
    benchmark fail.
    """

    bound: float
    goal: bool = True
    smallest: bool = False

    def __str__(self) -> str:
        return f"{'at least' if self.smallest else 'at most'} {self.bound:g}"

    def verdict(self, figure: float) -> Verdict:
        """Whether ``figure`` keeps it."""
        kept = figure >= self.bound if self.smallest else figure <= self.bound
        if self.goal:
            return Verdict.MET if kept else Verdict.MISSED
        return Verdict.AIM_MET if kept else Verdict.AIM_MISSED


def goal(most: float) -> Limit:
    """A figure that has to be reached."""
    return Limit(most)


def at_least(bound: float) -> Limit:
    """A figure that has to be reached from below."""
    return Limit(bound, smallest=True)


def aim(most: float) -> Limit:
    """A figure that is wished for."""
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
        """The median against the limit."""
        return self.limit.verdict(self.figure.median) if self.limit else Verdict.NONE


def single(figure: float) -> Spread:
    """A figure that was taken once."""
    return Spread.of([figure])
