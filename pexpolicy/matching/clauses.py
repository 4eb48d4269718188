"""One operator on one subject, ready to be asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pexpolicy.matching.patterns import Pattern, glob, quoted
from pexpolicy.matching.subjects import Subject
from pexpolicy.models.alias import Alias
from pexpolicy.models.request import Request
from pexpolicy.subnets import Subnets, read_subnet
from pexpolicy.text import brief

Holds = Callable[[Any], bool]
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?\s*").fullmatch
MAX_PATTERN = 60
"""Characters of a pattern that are shown."""
MAX_SHOWN = 3
"""Values that are shown of a subject that has many."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One operator with its operands on one subject."""

    subject: Subject
    operator: str
    """Without the negation; ``one_of`` is ``equals`` with several operands."""
    operands: tuple[Any, ...]
    negated: bool = False
    every: bool = False
    """True where all values must do, and not only one."""
    case_sensitive: bool = False
    holds: Holds = field(default=bool, compare=False, repr=False)
    """Whether one value does; negation stands outside of it."""
    patterns: tuple[Pattern, ...] = field(default=(), compare=False, repr=False)
    """What captures groups, for ``regex`` and ``glob``."""

    def matches(self, request: Request) -> bool:
        """True when the request does what the clause asks for."""
        return self.admits(self.subject.read(request))

    def admits(self, values: Sequence[Any]) -> bool:
        """The same of values that were read already."""
        if self.operator == "exists":
            return bool(values) is self.operands[0]
        if self.every:
            held = bool(values) and all(map(self.holds, values))
        else:
            held = any(map(self.holds, values))
        return held is not self.negated

    def why(self, request: Request) -> str:
        """Why the request does not match: the clause and the values; empty where it does."""
        values = self.subject.read(request)
        if self.admits(values):
            return ""
        if not values:
            return f"{self}: no match, the request has no {self.subject.key}"
        return f"{self} fails on {self._shown(values)}"

    def _shown(self, values: Sequence[Any]) -> str:
        if self.subject.secret or not self.subject.shown:
            return "a value that is not shown"
        return _listed(values)

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """What the first pattern that matches has captured: name, or nothing, and text."""
        if self.negated:
            return []
        for value in self.subject.read(request):
            for pattern in self.patterns:
                if (found := pattern.groups(value)) is not None:
                    return list(zip(pattern.names, found, strict=True))
        return []

    def __str__(self) -> str:
        operator = "not_" * self.negated + self.operator
        if self.subject.secret:
            return f"{self.subject.key}.{operator}"
        wanted = _listed(self.operands, _quoted if self.patterns else brief)
        return f"{self.subject.key}.{operator} = {wanted}"


def clause(
    subject: Subject,
    operator: str,
    operands: tuple[Any, ...],
    *,
    negated: bool = False,
    every: bool = False,
    case_sensitive: bool = False,
) -> Clause:
    """A clause with everything compiled that can be."""
    patterns: tuple[Pattern, ...] = ()
    if operator in ("regex", "glob"):
        compiled = glob if operator == "glob" else Pattern
        patterns = tuple(compiled(o, case_sensitive=case_sensitive) for o in operands)
    if operator == "equals" and subject.kind == "alias":
        operands = tuple(Alias(operand) for operand in operands)
    holds = _holds(subject, operator, operands, patterns, case_sensitive=case_sensitive)
    return Clause(subject, operator, operands, negated, every, case_sensitive, holds, patterns)


def _holds(
    subject: Subject,
    operator: str,
    operands: tuple[Any, ...],
    patterns: tuple[Pattern, ...],
    *,
    case_sensitive: bool,
) -> Holds:
    if patterns:
        return _one_of_patterns(patterns)
    if operator in ("greater", "less"):
        return _compared(operator, operands[0])
    if operator == "in_subnet":
        return _in_subnet(operands)
    if operator == "exists" or subject.kind in ("number", "flag"):
        return frozenset(operands).__contains__
    if case_sensitive:
        return _texts(operator, operands)
    folded = _texts(operator, tuple(operand.casefold() for operand in operands))
    return lambda value: folded(value.casefold())


def _texts(operator: str, operands: tuple[str, ...]) -> Holds:
    match operator:
        case "equals":
            return frozenset(operands).__contains__
        case "prefix":
            return lambda value: value.startswith(operands)
        case "suffix":
            return lambda value: value.endswith(operands)
        case "contains":
            return lambda value: any(operand in value for operand in operands)
        case _:
            msg = f"there is no operator {operator!r}"
            raise ValueError(msg)


def _one_of_patterns(patterns: tuple[Pattern, ...]) -> Holds:
    if len(patterns) == 1:
        return patterns[0].matches
    return lambda value: any(pattern.matches(value) for pattern in patterns)


def _compared(operator: str, bound: float) -> Holds:
    sign = 1 if operator == "greater" else -1

    def holds(value: Any) -> bool:
        number = _number(value)
        return number is not None and (number - bound) * sign > 0

    return holds


def _number(value: Any) -> float | None:
    if isinstance(value, int):
        return value
    return float(value) if _NUMBER(value) is not None else None


def _in_subnet(networks: tuple[str, ...]) -> Holds:
    # A network that is written twice, in two ways, is one.
    subnets = Subnets((str(network), True) for network in {read_subnet(n) for n in networks})
    return lambda value: subnets.find(value) is not None


def _listed(values: Sequence[Any], shown_as: Callable[[Any], str] = brief) -> str:
    """Some values on a short line; an alias is shown in its normal form."""
    shown = [shown_as(str(v) if isinstance(v, str) else v) for v in values[:MAX_SHOWN]]
    more = f" and {len(values) - MAX_SHOWN} more" if len(values) > MAX_SHOWN else ""
    return " or ".join(shown) + more


def _quoted(pattern: str) -> str:
    """A pattern as it is written, cut where it is too long for a line."""
    if len(pattern) <= MAX_PATTERN:
        return quoted(pattern)
    return f"{quoted(pattern[:MAX_PATTERN])}… ({len(pattern)} long)"
