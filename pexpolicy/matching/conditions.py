"""Conditions: compiled ``when`` tables that match requests, explain and capture, and their index.

A clause is one operator on one subject; conditions of parts join them. The index finds the first
match without a linear scan: a condition that requires an exact value, a prefix or a suffix is
tested only if the request has it. All others are tested for every request.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from pexpolicy.matching.patterns import Pattern, glob, limit_together, quoted
from pexpolicy.matching.subjects import ALIAS_PARTS, Kind, Subject, why_never_equal
from pexpolicy.matching.time_window import TimeOperators
from pexpolicy.models.alias import Alias
from pexpolicy.models.context import WallClock
from pexpolicy.models.request import Request
from pexpolicy.models.subnets import Subnets, read_subnet
from pexpolicy.text import brief

Groups = list[tuple[str, str]]
"""Names of groups, and the text that each of them has."""
ValueTest = Callable[[Any], bool]
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?\s*").fullmatch
MAX_VALUES = 3
"""Maximum number of values in an explanation."""


class Condition(ABC):
    """A test of requests; immutable and thread-safe."""

    __slots__ = ()

    @abstractmethod
    def matches(self, request: Request) -> bool:
        """Return whether the request satisfies the condition; never raises."""

    @abstractmethod
    def why(self, request: Request) -> str:
        """Return the part that does not match and the value, or an empty text."""

    def groups(self, request: Request) -> Groups:
        """Return what patterns captured: the name of each group, or an empty text, and its text."""
        return []


@dataclass(frozen=True, slots=True)
class _OnSubject(Condition):
    """A test of the values of a subject."""

    subject: Subject
    operator: str
    """Without the negation; ``one_of`` is ``equals`` with several operands."""
    negated: bool = field(default=False, kw_only=True)
    every: bool = field(default=False, kw_only=True)
    """True if all values must pass, and not only one."""

    @property
    def key(self) -> str:
        """The operator as it is written, with the name of its subject."""
        return f"{self.subject.key}.{'not_' * self.negated}{self.operator}"

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

    def groups(self, request: Request) -> Groups:
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
        if self.subject.secret:
            return self.key
        shown = quoted if self.patterns else brief
        return f"{self.key} = {format_values(self.operands, shown)}"


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
        return f"{self.key} = the value of {self.other}"


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
        return f"{self.key} = {format_values(self.names)}"


def _shown(subject: Subject, values: Sequence[Any]) -> str:
    return "a hidden value" if subject.secret or not subject.shown else format_values(values)


@dataclass(frozen=True, slots=True)
class _OfParts(Condition):
    parts: tuple[Condition, ...]


class All(_OfParts):
    """A condition that matches if every part does, and always without parts."""

    __slots__ = ()

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

    def groups(self, request: Request) -> Groups:
        """Return the groups of all parts in order."""
        return [group for part in self.parts for group in part.groups(request)]


class AnyOf(_OfParts):
    """A condition that matches if any part does."""

    __slots__ = ()

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

    def groups(self, request: Request) -> Groups:
        """Return the groups of the first part that matches."""
        return next((p.groups(request) for p in self.parts if p.matches(request)), [])


class NoneOf(_OfParts):
    """A condition that matches if no part does."""

    __slots__ = ()

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


@dataclass(frozen=True, slots=True)
class TimeCondition(Condition):
    """A condition that matches during a time window."""

    window: TimeOperators
    clock: WallClock = field(default=time.time, compare=False)

    def matches(self, request: Request) -> bool:
        """Return whether the current time is in the window."""
        return self.window.contains(self.clock())

    def why(self, request: Request) -> str:
        """Return the window and the current time in its zone if that is outside."""
        now = self.clock()
        if self.window.contains(now):
            return ""
        return f"the time is not {self.window}; it is {self.window.local(now):%A %Y-%m-%d %H:%M}"

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
    if isinstance(condition, Clause):
        patterns = condition.patterns if condition.captures else ()
        names = {name for pattern in patterns for name in pattern.names if name}
        count = max((len(pattern.names) for pattern in patterns), default=0)
    elif isinstance(condition, All | AnyOf):
        inner = [group_names(part) for part in condition.parts]
        names, count = set(chain(*inner)), 0
        if isinstance(condition, All):  # its parts are numbered through
            count = sum(name.isdigit() for found in inner for name in found)
    else:
        return frozenset()
    return frozenset(names.union(map(str, range(1, count + 1))))


def flattened(condition: Condition) -> Iterator[Condition]:
    """Yield a condition and all that are inside of it."""
    yield condition
    for part in getattr(condition, "parts", ()):
        yield from flattened(part)


def required(condition: Condition) -> Iterator[Clause]:
    """Yield the clauses that every matching request satisfies."""
    if isinstance(condition, Clause):
        yield condition
    elif isinstance(condition, All):
        for part in condition.parts:
            yield from required(part)
    elif isinstance(condition, AnyOf) and len(condition.parts) == 1:
        yield from required(condition.parts[0])


_SCHEME = re.compile(r"\^?(?:\((?:\?:)?)?(?:sips?\??|h323|tel)\b[^:@]{0,20}:", re.IGNORECASE)
"""A pattern that begins with the scheme of an alias, or with several in parentheses."""
_DIALED_CODE = re.compile(r"[*#\d]+")


def pitfalls(condition: Condition) -> Iterator[str]:
    """Yield what matches nothing in a condition, with what to write."""
    for clause in flattened(condition):
        if isinstance(clause, Clause) and not clause.subject.secret:
            negated = "not_" * clause.negated
            for operand in (getattr(one, "raw", str(one)) for one in clause.operands):
                if advice := _pitfall(clause, operand, negated):
                    yield f"{clause.key} = {brief(operand)} {advice}"


def _pitfall(clause: Clause, operand: str, negated: str) -> str:
    key, kind = clause.subject.key, clause.subject.kind
    name, _, part = key.partition(".")
    is_alias = kind == "alias" or (name.endswith("alias") and part in ALIAS_PARTS)
    is_whole = clause.operator == "equals"
    if clause.operator == "regex" and kind == "alias" and _SCHEME.match(operand):
        return f"matches no alias, whose normal form has no scheme; write {key}.raw.{negated}regex"
    if is_whole and is_alias and "*" in operand:
        glob = f"compares the whole text: write {key} = {{ {negated}glob = {operand!r} }}"
        return "" if _DIALED_CODE.fullmatch(operand) else glob
    if not is_whole and not (is_alias and clause.operator in _FILLED):
        return ""
    text = operand if is_whole else _FILLED[clause.operator](operand)
    why = why_never_equal(clause.subject, text)
    if kind == "alias":
        if not is_whole and (normal := str(Alias(text))) != text.lower():
            why = why or f"is not in its normal form, as in {normal!r}"
        why += f"; write an alias, several in a list, or compare {key}.host" if why else ""
    return f"{'always' if negated else 'never'} matches, as it {why}" if why else ""


_FILLED: Mapping[str, Callable[[str], str]] = {
    "prefix": "{}x".format,
    "suffix": "x{}".format,
    "contains": "x{}x".format,
    "glob": lambda operand: re.sub(r"[*?]", "x", operand),
}
"""By operator: what makes a value that it matches."""


T = TypeVar("T")
_INDEXED = ("equals", "prefix", "suffix")


class Index(Generic[T]):
    """Conditions in their order, each with a value."""

    def __init__(self, entries: Iterable[tuple[Condition, T]]) -> None:
        self.entries: Sequence[tuple[Condition, T]] = tuple(entries)
        self._always: list[int] = []
        self._positions: dict[Subject, dict[tuple[str, int], dict[Any, list[int]]]] = {}
        """Of the conditions on a subject: by operator and length, and by the folded operand."""
        inner = chain.from_iterable(flattened(condition) for condition, _ in self.entries)
        patterns = chain.from_iterable(getattr(one, "patterns", ()) for one in inner)
        self.doubt = limit_together(list(patterns))
        """That the patterns are too large together, as a sentence; else empty."""
        clauses = [
            [one for one in required(found) if one.operator in _INDEXED and not one.negated]
            for found, _ in self.entries
        ]
        counts = Counter(key for found in clauses for clause in found for key in _keys(clause))
        for position, found in enumerate(clauses):
            if not found:
                self._always.append(position)
                continue
            # The most selective clause leaves the fewest candidates for a request.
            best = min(found, key=lambda clause: sum(counts[key] for key in _keys(clause)))
            of_subject = self._positions.setdefault(best.subject, {})
            for _, operator, operand in _keys(best):
                length = 0 if operator == "equals" else len(operand)
                by_operand = of_subject.setdefault((operator, length), {})
                by_operand.setdefault(operand, []).append(position)

    def first(self, request: Request) -> T | None:
        """Return the value of the first condition that the request matches, or ``None``."""
        for position in self.candidates(request):
            condition, value = self.entries[position]
            if condition.matches(request):
                return value
        return None

    def candidates(self, request: Request) -> Sequence[int]:
        """Return the positions of all conditions that the request may match, in order."""
        found: list[int] = []
        for subject, of_subject in self._positions.items():
            for value in subject.read(request):
                folded = value.casefold() if isinstance(value, str) else value
                for (operator, length), positions in of_subject.items():
                    if operator == "equals":
                        found += positions.get(folded, ())
                    elif isinstance(folded, str):
                        end = folded[:length] if operator == "prefix" else folded[-length:]
                        found += positions.get(end, ())
        return sorted({*found, *self._always}) if found else self._always


def _keys(clause: Clause) -> Iterator[tuple[Subject, str, Any]]:
    for operand in clause.operands:
        folded = operand.casefold() if isinstance(operand, str) else operand
        yield clause.subject, clause.operator, folded
