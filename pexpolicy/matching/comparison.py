"""Conditions on two values of a request, and on lists of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pexpolicy.matching.clauses import format_values, is_number_after, number_of
from pexpolicy.matching.patterns import Pattern, quoted
from pexpolicy.matching.subjects import Kind, Subject
from pexpolicy.models.alias import Alias
from pexpolicy.models.request import Request


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
class Comparison:
    """A comparison of two values of a request; each has one value or several."""

    subject: Subject
    operator: str
    """``equals``, ``greater`` or ``less``, without the negation."""
    other: OtherValue
    negated: bool = False
    every: bool = False
    """True if all values of the subject must pass, and not only one."""
    case_sensitive: bool = False

    def matches(self, request: Request) -> bool:
        """Return whether the request satisfies the comparison; false without both values."""
        values, others = self.subject.read(request), self.other.read(request)
        if not others:
            return self.negated
        test = self._test(others)
        passed = bool(values) and all(map(test, values)) if self.every else any(map(test, values))
        return passed is not self.negated

    def _test(self, others: Sequence[Any]) -> Callable[[Any], bool]:
        kinds = (self.subject.kind, self.other.subject.kind)
        if self.operator == "equals" and "number" not in kinds:
            normal = self._normal("alias" in kinds)
            wanted = frozenset(map(normal, others))
            return lambda value: normal(value) in wanted
        numbers = [number for other in others if (number := number_of(other)) is not None]
        if self.operator == "equals":
            return lambda value: number_of(value) in numbers
        return lambda value: any(is_number_after(value, self.operator, n) for n in numbers)

    def _normal(self, is_alias: bool) -> Callable[[Any], str]:  # noqa: FBT001 - private
        if is_alias:
            return lambda value: str(Alias(str(value)))
        return str if self.case_sensitive else lambda value: str(value).casefold()

    def why(self, request: Request) -> str:
        """Return the comparison and both values if it does not match, or an empty text."""
        if self.matches(request):
            return ""
        values, others = self.subject.read(request), self.other.read(request)
        for subject, found in ((self.subject, values), (self.other.subject, others)):
            if not found:
                return f"{self}: no match, the request has no {subject.key}"
        ours, theirs = _shown(self.subject, values), _shown(self.other.subject, others)
        return f"{self}: no match for {ours} and {theirs}"

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """Return no groups."""
        return []

    def __str__(self) -> str:
        operator = "not_" * self.negated + self.operator
        return f"{self.subject.key}.{operator} = the value of {self.other}"


@dataclass(frozen=True, slots=True)
class InSource:
    """A condition that matches if a value is in a list."""

    subject: Subject
    names: tuple[str, ...]
    lists: tuple[ValueList, ...] = field(compare=False, repr=False)
    negated: bool = False
    every: bool = False
    """True if all values must be in a list, and not only one."""

    def matches(self, request: Request) -> bool:
        """Return whether a value is in one of the lists; raise what they raise."""
        values = self.subject.read(request)
        if self.every:
            passed = bool(values) and all(self._has(value, request) for value in values)
        else:
            passed = any(self._has(value, request) for value in values)
        return passed is not self.negated

    def _has(self, value: Any, request: Request) -> bool:
        return any(values.has(value, request) for values in self.lists)

    def why(self, request: Request) -> str:
        """Return the condition and the values if it does not match, or an empty text."""
        if self.matches(request):
            return ""
        values = self.subject.read(request)
        if not values:
            return f"{self}: no match, the request has no {self.subject.key}"
        return f"{self}: no match for {_shown(self.subject, values)}"

    def groups(self, request: Request) -> list[tuple[str, str]]:
        """Return no groups."""
        return []

    def __str__(self) -> str:
        operator = "not_" * self.negated + "in_source"
        return f"{self.subject.key}.{operator} = {format_values(self.names)}"


def _shown(subject: Subject, values: Sequence[Any]) -> str:
    return "a hidden value" if subject.secret or not subject.shown else format_values(values)
