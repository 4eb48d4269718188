"""Conditions: compiled ``when`` tables that match requests, explain and capture."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from pexpolicy.matching.clauses import Clause
from pexpolicy.matching.time_window import TimeWindow
from pexpolicy.models.request import Request
from pexpolicy.models.wall_clock import WallClock


class Condition(Protocol):
    """A test of requests; immutable and thread-safe."""

    def matches(self, request: Request) -> bool:
        """Return whether the request satisfies the condition; never raises."""

    def why(self, request: Request) -> str:
        """Return the part that does not match and the value, or an empty text."""

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """Return what patterns captured: the name of each group, or an empty text, and its text."""


@dataclass(frozen=True, slots=True)
class All:
    """A condition that matches if every part does, and always without parts."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.parts))

    def matches(self, request: Request) -> bool:
        """Return whether every part matches."""
        for part in self.parts:  # noqa: SIM110 - a generator would cost more than the parts
            if not part.matches(request):
                return False
        return True

    def why(self, request: Request) -> str:
        """Return why the first part does not match."""
        return next((why for part in self.parts if (why := part.why(request))), "")

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """Return the groups of all parts in order."""
        return [group for part in self.parts for group in part.groups(request)]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A condition that matches if any part does."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return f"any of ({'; '.join(map(str, self.parts))})"

    def matches(self, request: Request) -> bool:
        """Return whether any part matches."""
        return any(part.matches(request) for part in self.parts)

    def why(self, request: Request) -> str:
        """Return why each part does not match."""
        if self.matches(request):
            return ""
        return "no condition of any matches: " + "; ".join(part.why(request) for part in self.parts)

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """Return the groups of the first part that matches."""
        return next((p.groups(request) for p in self.parts if p.matches(request)), [])


@dataclass(frozen=True, slots=True)
class NoneOf:
    """A condition that matches if no part does."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return f"none of ({'; '.join(map(str, self.parts))})"

    def matches(self, request: Request) -> bool:
        """Return whether no part matches."""
        return not any(part.matches(request) for part in self.parts)

    def why(self, request: Request) -> str:
        """Return the part that matches."""
        for number, part in enumerate(self.parts):
            if part.matches(request):
                return f"none[{number}] matches: {part}"
        return ""

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """Return no groups, as no part matched."""
        return []


@dataclass(frozen=True, slots=True)
class TimeCondition:
    """A condition that matches during a time window."""

    window: TimeWindow
    clock: WallClock = field(default=time.time, compare=False)

    def matches(self, request: Request) -> bool:
        """Return whether the current time is in the window."""
        return self.window.contains(self.clock())

    def why(self, request: Request) -> str:
        """Return the window and the current time in its zone if that is outside."""
        now = self.clock()
        if self.window.contains(now):
            return ""
        return f"the time is not {self.window}; it is {self.window.format(now)}"

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """Return no groups."""
        return []

    def __str__(self) -> str:
        return f"time = {self.window}"


def captures(condition: Condition, request: Request) -> Mapping[str, str]:
    """Return what patterns captured from a matching request, by number from ``"1"`` and by name.

    Groups are numbered through all patterns in their order; of several groups with one name, the
    first counts. Patterns of secrets, such as ``third_party_passcode``, capture nothing.
    """
    found: dict[str, str] = {}
    for number, (name, text) in enumerate(condition.groups(request), 1):
        found[str(number)] = text
        if name:
            found.setdefault(name, text)
    return found


def group_names(condition: Condition) -> frozenset[str]:
    """Return the keys that ``captures`` may return for this condition."""
    count, names = _capturing(condition)
    return frozenset(map(str, range(1, count + 1))) | names


def _capturing(condition: Condition) -> tuple[int, frozenset[str]]:
    """Return the maximum number of groups, and their names."""
    if isinstance(condition, Clause):
        if not condition.captures:
            return 0, frozenset()
        names = [pattern.names for pattern in condition.patterns]
        return max(map(len, names), default=0), frozenset(filter(None, chain(*names)))
    if not isinstance(condition, All | AnyOf):
        return 0, frozenset()
    inner = [_capturing(part) for part in condition.parts]
    combine = sum if isinstance(condition, All) else max
    return combine(count for count, _ in inner), frozenset(chain(*(names for _, names in inner)))


def required(condition: Condition) -> Iterator[Clause]:
    """Yield the clauses that every matching request satisfies."""
    if isinstance(condition, Clause):
        yield condition
    elif isinstance(condition, All):
        for part in condition.parts:
            yield from required(part)
    elif isinstance(condition, AnyOf) and len(condition.parts) == 1:
        yield from required(condition.parts[0])
