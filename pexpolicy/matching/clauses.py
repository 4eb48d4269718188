"""Clauses: one compiled operator on one subject, on two values of a request, or on lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pexpolicy.matching.patterns import Pattern, glob, quoted
from pexpolicy.matching.subjects import Kind, Subject
from pexpolicy.models.alias import Alias
from pexpolicy.models.request import Request
from pexpolicy.models.subnets import Subnets, read_subnet
from pexpolicy.text import brief

ValueTest = Callable[[Any], bool]
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?\s*").fullmatch
MAX_PATTERN_LENGTH = 60
"""Maximum length of a pattern in an explanation, in characters."""
MAX_VALUES = 3
"""Maximum number of values in an explanation."""


class Condition:
    """A test of requests; immutable and thread-safe."""

    __slots__ = ()

    def matches(self, request: Request) -> bool:
        """Return whether the request satisfies the condition; never raises."""
        raise NotImplementedError

    def why(self, request: Request) -> str:
        """Return the part that does not match and the value, or an empty text."""
        raise NotImplementedError

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """Return what patterns captured: the name of each group, or an empty text, and its text."""
        return []


@dataclass(frozen=True, slots=True)
class _OnSubject(Condition):
    """A test of the values of a subject."""

    subject: Subject
    negated: bool = field(default=False, kw_only=True)
    every: bool = field(default=False, kw_only=True)
    """True if all values must pass, and not only one."""

    def _passes(self, values: Sequence[Any], test: ValueTest) -> bool:
        passed = bool(values) and all(map(test, values)) if self.every else any(map(test, values))
        return passed is not self.negated

    def _read(self, request: Request) -> list[tuple[Subject, Sequence[Any]]]:
        return [(self.subject, self.subject.read(request))]

    def why(self, request: Request) -> str:
        """Return the test and the values if the request does not match, or an empty text."""
        if self.matches(request):
            return ""
        found = self._read(request)
        if (unset := next((one for one, values in found if not values), None)) is not None:
            return f"{self}: no match, the request has no {unset.key}"
        return f"{self}: no match for {' and '.join(_shown(*one) for one in found)}"


@dataclass(frozen=True, slots=True)
class Clause(_OnSubject):
    """One operator with its operands on one subject."""

    operator: str
    """Without the negation; ``one_of`` is ``equals`` with several operands."""
    operands: tuple[Any, ...]
    case_sensitive: bool = False
    test: ValueTest = field(default=bool, compare=False, repr=False)
    """Test of one value, without the negation."""
    patterns: tuple[Pattern, ...] = field(default=(), compare=False, repr=False)
    """The patterns of ``regex`` and ``glob``."""

    @property
    def captures(self) -> bool:
        """True if what its patterns capture may be used."""
        return not (self.negated or self.subject.secret)

    def matches(self, request: Request) -> bool:
        """Return whether the request satisfies the clause."""
        return self.admits(self.subject.read(request))

    def admits(self, values: Sequence[Any]) -> bool:
        """Return whether values that were read from a request satisfy the clause."""
        if self.operator == "exists":
            return bool(values) is self.operands[0]
        return self._passes(values, self.test)

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """Return the groups of the first pattern that matches, as names (or "") and texts.

        None of a secret, which no decision may show.
        """
        if not self.captures:
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
        shown = _format_pattern if self.patterns else brief
        return f"{self.subject.key}.{operator} = {format_values(self.operands, shown)}"


def clause(
    subject: Subject, operator: str, operands: tuple[Any, ...], *, case_sensitive: bool, **how: bool
) -> Clause:
    """Return a compiled clause; raise ``PatternError`` for an invalid pattern.

    ``how`` says whether it is ``negated``, and whether ``every`` value must pass.
    """
    patterns: tuple[Pattern, ...] = ()
    if operator in ("regex", "glob"):
        compiled = glob if operator == "glob" else Pattern
        patterns = tuple(compiled(o, case_sensitive=case_sensitive) for o in operands)
    if operator == "equals" and subject.kind == "alias":
        operands = tuple(Alias(operand) for operand in operands)
    test = _value_test(subject, operator, operands, patterns, case_sensitive=case_sensitive)
    return Clause(subject, operator, operands, case_sensitive, test, patterns, **how)


def _value_test(
    subject: Subject,
    operator: str,
    operands: tuple[Any, ...],
    patterns: tuple[Pattern, ...],
    *,
    case_sensitive: bool,
) -> ValueTest:
    if patterns:
        return lambda value: any(pattern.matches(value) for pattern in patterns)
    if operator in ("greater", "less"):
        return lambda value: _is_number_after(value, operator, operands)
    if operator == "in_subnet":
        # Two spellings of one network are a single entry.
        subnets = Subnets((str(network), True) for network in set(map(read_subnet, operands)))
        return lambda value: subnets.find(value) is not None
    if operator == "exists" or subject.kind in ("number", "flag"):
        return frozenset(operands).__contains__
    if case_sensitive:
        return _TEXT_TESTS[operator](operands)
    folded = _TEXT_TESTS[operator](tuple(operand.casefold() for operand in operands))
    return lambda value: folded(value.casefold())


_TEXT_TESTS: dict[str, Callable[[tuple[str, ...]], ValueTest]] = {
    "equals": lambda operands: frozenset(operands).__contains__,
    "prefix": lambda operands: lambda value: value.startswith(operands),
    "suffix": lambda operands: lambda value: value.endswith(operands),
    "contains": lambda operands: lambda value: any(operand in value for operand in operands),
}


def _is_number_after(value: Any, operator: str, bounds: Sequence[float]) -> bool:
    """Return whether a value is a number that is ``greater`` or ``less`` than one of the bounds."""
    if (number := _number_of(value)) is None:
        return False
    return any(number > one if operator == "greater" else number < one for one in bounds)


def _number_of(value: Any) -> float | None:
    """Return a number, also one that is written as text; ``None`` for other text."""
    if isinstance(value, int):
        return value
    return float(value) if _NUMBER(value) is not None else None


def format_values(values: Sequence[Any], format_one: Callable[[Any], str] = brief) -> str:
    """Return the first values on a short line, aliases in their normal form."""
    texts = [format_one(str(v) if isinstance(v, str) else v) for v in values[:MAX_VALUES]]
    more = f" and {len(values) - MAX_VALUES} more" if len(values) > MAX_VALUES else ""
    return " or ".join(texts) + more


def _format_pattern(pattern: str) -> str:
    cut = f"… ({len(pattern)} characters)" if len(pattern) > MAX_PATTERN_LENGTH else ""
    return quoted(pattern[:MAX_PATTERN_LENGTH]) + cut


class ValueList(Protocol):
    """A list of values, such as a column of a source."""

    def has(self, value: Any, request: Request) -> bool:
        """Return whether a value of the request is in the list.

        Raises what the list raises where that is not known: then the condition has no result.
        """


FindList = Callable[[str, Kind], ValueList]
"""Returns a list by its name, for values of a kind."""


@dataclass(frozen=True, slots=True)
class OtherValue:
    """A value of a request, or a part of it, that stands instead of a written one."""

    subject: Subject
    pattern: Pattern | None = None
    """The whole value must match it, and its first group counts."""

    def read(self, request: Request) -> Sequence[Any]:
        """Return all its values, and none if it is unset or does not match."""
        values = self.subject.read(request)
        if self.pattern is None:
            return values
        found = (self.pattern.groups(str(value)) for value in values)
        return [groups[0] for groups in found if groups is not None and groups[0]]

    def __str__(self) -> str:
        by = f" by {quoted(self.pattern.source)}" if self.pattern is not None else ""
        return f"{self.subject.key}{by}"


@dataclass(frozen=True, slots=True)
class Comparison(_OnSubject):
    """A comparison of two values of a request; each has one value or several."""

    operator: str
    """``equals``, ``greater`` or ``less``, without the negation."""
    other: OtherValue
    case_sensitive: bool = False

    def matches(self, request: Request) -> bool:
        """Return whether the request satisfies the comparison; false without both values."""
        (_, values), (_, others) = self._read(request)
        return self._passes(values, self._test(others)) if others else self.negated

    def _read(self, request: Request) -> list[tuple[Subject, Sequence[Any]]]:
        others = self.other.read(request)
        return [(self.subject, self.subject.read(request)), (self.other.subject, others)]

    def _test(self, others: Sequence[Any]) -> Callable[[Any], bool]:
        kinds = (self.subject.kind, self.other.subject.kind)
        if self.operator == "equals" and "number" not in kinds:

            def normal(value: Any) -> str:
                text = str(Alias(str(value))) if "alias" in kinds else str(value)
                return text if self.case_sensitive else text.casefold()

            wanted = frozenset(map(normal, others))
            return lambda value: normal(value) in wanted
        numbers = [number for other in others if (number := _number_of(other)) is not None]
        if self.operator == "equals":
            return lambda value: _number_of(value) in numbers
        return lambda value: _is_number_after(value, self.operator, numbers)

    def __str__(self) -> str:
        operator = "not_" * self.negated + self.operator
        return f"{self.subject.key}.{operator} = the value of {self.other}"


@dataclass(frozen=True, slots=True)
class InSource(_OnSubject):
    """A condition that matches if a value is in a list."""

    names: tuple[str, ...]
    lists: tuple[ValueList, ...] = field(compare=False, repr=False)

    def matches(self, request: Request) -> bool:
        """Return whether a value is in one of the lists; raise what they raise."""
        return self._passes(
            self.subject.read(request),
            lambda value: any(values.has(value, request) for values in self.lists),
        )

    def __str__(self) -> str:
        operator = "not_" * self.negated + "in_source"
        return f"{self.subject.key}.{operator} = {format_values(self.names)}"


def _shown(subject: Subject, values: Sequence[Any]) -> str:
    return "a hidden value" if subject.secret or not subject.shown else format_values(values)
