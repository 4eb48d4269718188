"""Index of conditions that finds the first match without a linear scan.

A condition that requires an exact value, a prefix or a suffix is tested only if the request has it.
All other conditions are tested for every request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pexpolicy.matching.clauses import Clause
from pexpolicy.matching.conditions import Condition, required
from pexpolicy.matching.subjects import Subject
from pexpolicy.models.request import Request

T = TypeVar("T")
_INDEXED = ("equals", "prefix", "suffix")
_Positions = dict[Any, list[int]]


class Index(Generic[T]):
    """Conditions in their order, each with a value."""

    def __init__(self, entries: Iterable[tuple[Condition, T]]) -> None:
        self.entries: Sequence[tuple[Condition, T]] = tuple(entries)
        self._always: list[int] = []
        self._buckets: dict[str, _Bucket] = {}
        clauses = [_indexable(condition) for condition, _ in self.entries]
        counts = Counter(key for found in clauses for clause in found for key in _keys(clause))
        for position, found in enumerate(clauses):
            if found:
                # The most selective clause leaves the fewest candidates for a request.
                best = min(found, key=lambda clause: sum(counts[key] for key in _keys(clause)))
                bucket = self._buckets.setdefault(best.subject.key, _Bucket(best.subject))
                bucket.add(best, position)
            else:
                self._always.append(position)

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
        for bucket in self._buckets.values():
            bucket.collect(request, found)
        if not found:
            return self._always
        return sorted({*found, *self._always})


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Positions of conditions on one subject, by exact value, and by length, prefix and suffix."""

    subject: Subject
    exact: _Positions = field(default_factory=dict)
    prefixes: dict[int, _Positions] = field(default_factory=dict)
    suffixes: dict[int, _Positions] = field(default_factory=dict)

    def add(self, clause: Clause, position: int) -> None:
        for operand in _folded(clause):
            match clause.operator:
                case "prefix":
                    positions = self.prefixes.setdefault(len(operand), {})
                case "suffix":
                    positions = self.suffixes.setdefault(len(operand), {})
                case _:
                    positions = self.exact
            positions.setdefault(operand, []).append(position)

    def collect(self, request: Request, found: list[int]) -> None:
        """Add the positions of conditions that the values of a request may satisfy."""
        for value in self.subject.read(request):
            key = value.casefold() if isinstance(value, str) else value
            if positions := self.exact.get(key):
                found += positions
            if not isinstance(key, str):
                continue
            for length, by_prefix in self.prefixes.items():
                if positions := by_prefix.get(key[:length]):
                    found += positions
            for length, by_suffix in self.suffixes.items():
                if positions := by_suffix.get(key[-length:]):
                    found += positions


def _indexable(condition: Condition) -> list[Clause]:
    return [
        clause
        for clause in required(condition)
        if clause.operator in _INDEXED and not clause.negated
    ]


def _keys(clause: Clause) -> Iterator[tuple[str, str, Any]]:
    for operand in _folded(clause):
        yield clause.subject.key, clause.operator, operand


def _folded(clause: Clause) -> Iterator[Any]:
    for operand in clause.operands:
        yield operand.casefold() if isinstance(operand, str) else operand
