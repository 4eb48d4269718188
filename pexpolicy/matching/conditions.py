"""Conditions: compiled ``when`` tables that match requests, explain and capture, and their index.

The index finds the first match without a linear scan: a condition that requires an exact value, a
prefix or a suffix is tested only if the request has it. All others are tested for every request.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Generic, TypeVar

from pexpolicy.matching.clauses import Clause, Condition
from pexpolicy.matching.patterns import limit_together
from pexpolicy.matching.subjects import ALIAS_PARTS, Subject, why_never_equal
from pexpolicy.matching.time_window import TimeOperators
from pexpolicy.models.alias import Alias
from pexpolicy.models.context import WallClock
from pexpolicy.models.request import Request
from pexpolicy.text import brief


@dataclass(frozen=True, slots=True)
class All(Condition):
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
class AnyOf(Condition):
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
class NoneOf(Condition):
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
                    operator = negated + clause.operator
                    yield f"{clause.subject.key}.{operator} = {brief(operand)} {advice}"


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
