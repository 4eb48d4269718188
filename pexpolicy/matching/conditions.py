"""A ``when``, compiled: whether a request matches, why not, and what was captured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from pexpolicy.matching.clauses import Clause
from pexpolicy.matching.time_window import TimeWindow
from pexpolicy.models.request import Request

WallClock = Callable[[], float]
"""Seconds since 1970."""


class Condition(Protocol):
    """What a request may satisfy; immutable, and safe to ask from any thread."""

    def matches(self, request: Request) -> bool:
        """True when the request satisfies it. Never raises, whatever was sent."""

    def why(self, request: Request) -> str:
        """Which part fails on which value; empty when the request matches."""

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """What patterns captured: the name of each group, or nothing, and its text."""


@dataclass(frozen=True, slots=True)
class All:
    """Holds when each part does; with no part, always."""

    parts: tuple[Condition, ...]

    def matches(self, request: Request) -> bool:
        """True when each part matches."""
        for part in self.parts:  # noqa: SIM110 - a generator would cost more than the parts
            if not part.matches(request):
                return False
        return True

    def why(self, request: Request) -> str:
        """The first part that fails."""
        return next((why for part in self.parts if (why := part.why(request))), "")

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """The groups of all parts, one behind the other."""
        return [group for part in self.parts for group in part.groups(request)]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds when one part does."""

    parts: tuple[Condition, ...]

    def matches(self, request: Request) -> bool:
        """True when a part matches."""
        return any(part.matches(request) for part in self.parts)

    def why(self, request: Request) -> str:
        """Why each part fails."""
        if self.matches(request):
            return ""
        return "none of any holds: " + "; ".join(part.why(request) for part in self.parts)

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """The groups of the first part that matches."""
        return next((p.groups(request) for p in self.parts if p.matches(request)), [])


@dataclass(frozen=True, slots=True)
class NoneOf:
    """Holds when no part does."""

    parts: tuple[Condition, ...]

    def matches(self, request: Request) -> bool:
        """True when no part matches."""
        return not any(part.matches(request) for part in self.parts)

    def why(self, request: Request) -> str:
        """The part that holds and should not."""
        for number, part in enumerate(self.parts):
            if part.matches(request):
                return f"none[{number}] holds: {_said(part)}"
        return ""

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """Nothing: what does not hold has captured nothing."""
        return []


@dataclass(frozen=True, slots=True)
class TimeCondition:
    """Holds at certain times."""

    window: TimeWindow
    clock: WallClock = field(default=time.time, compare=False)

    def matches(self, request: Request) -> bool:
        """True when it is time."""
        return self.window.holds(self.clock())

    def why(self, request: Request) -> str:
        """What time it is."""
        if self.matches(request):
            return ""
        here = self.window.local(self.clock())
        return f"time fails on {here:%A %Y-%m-%d %H:%M} in {self.window.settings.zone}"

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """Nothing."""
        return []


def captured(condition: Condition, request: Request) -> Mapping[str, str]:
    """What the patterns of a condition captured from a request that matches it, by the number of
    the group, from ``1`` on, and by its name.

    Groups are counted through all patterns in the order in which they stand; the first of several
    groups of one name counts.
    """
    found: dict[str, str] = {}
    for number, (name, text) in enumerate(condition.groups(request), 1):
        found[str(number)] = text
        if name:
            found.setdefault(name, text)
    return found


def group_names(condition: Condition) -> frozenset[str]:
    """The numbers and names that ``captured`` may give for this condition."""
    count, names = _capturing(condition)
    return frozenset(map(str, range(1, count + 1))) | names


def _capturing(condition: Condition) -> tuple[int, frozenset[str]]:
    """How many groups there are at most, and the names of those that have one."""
    if isinstance(condition, Clause):
        if condition.negated:
            return 0, frozenset()
        names = [pattern.names for pattern in condition.patterns]
        return max(map(len, names), default=0), frozenset(filter(None, chain(*names)))
    if not isinstance(condition, All | AnyOf):
        return 0, frozenset()
    inner = [_capturing(part) for part in condition.parts]
    together = sum if isinstance(condition, All) else max
    return together(count for count, _ in inner), frozenset(chain(*(names for _, names in inner)))


def required(condition: Condition) -> Iterator[Clause]:
    """The clauses that each request must satisfy that matches the condition."""
    if isinstance(condition, Clause):
        yield condition
    elif isinstance(condition, All):
        for part in condition.parts:
            yield from required(part)
    elif isinstance(condition, AnyOf) and len(condition.parts) == 1:
        yield from required(condition.parts[0])


def _said(condition: Condition) -> str:
    if isinstance(condition, All):
        return " and ".join(_said(part) for part in condition.parts)
    return str(condition) if isinstance(condition, Clause) else type(condition).__name__
