"""Many conditions, and the first that a request matches, without asking each of them.

A condition that demands an exact value, a prefix or a suffix of some subject is looked at only when
the request has it. All other conditions are looked at for every request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pexpolicy.matching.conditions import Condition, required
from pexpolicy.matching.subjects import Subject
from pexpolicy.models.request import Request

T = TypeVar("T")
_INDEXED = ("equals", "prefix", "suffix")
_Positions = dict[Any, list[int]]


class Index(Generic[T]):
    """Conditions in their order, each with the value that belongs to it; built once."""

    def __init__(self, entries: Iterable[tuple[Condition, T]]) -> None:
        self.entries: Sequence[tuple[Condition, T]] = tuple(entries)
        self._always: list[int] = []
        self._shelves: dict[str, _Bucket] = {}
        demands = [_demands(condition) for condition, _ in self.entries]
        crowds = Counter(key for found in demands for demand in found for key in demand.marks())
        for position, found in enumerate(demands):
            if found:
                best = min(found, key=lambda demand: sum(crowds[key] for key in demand.marks()))
                self._shelf(best.subject).put(best, position)
            else:
                self._always.append(position)

    def _shelf(self, subject: Subject) -> _Bucket:
        return self._shelves.setdefault(subject.key, _Bucket(subject))

    def first(self, request: Request) -> T | None:
        """The value of the first condition that the request matches, or ``None``."""
        for position in self.candidates(request):
            condition, value = self.entries[position]
            if condition.matches(request):
                return value
        return None

    def candidates(self, request: Request) -> Sequence[int]:
        """The positions of all conditions that the request may match, in order."""
        found: list[int] = []
        for shelf in self._shelves.values():
            shelf.collect(request, found)
        if not found:
            return self._always
        return sorted({*found, *self._always})


@dataclass(frozen=True, slots=True)
class _RequiredValues:
    """What a request must have for a condition: one of some values, prefixes or suffixes."""

    subject: Subject
    operator: str
    operands: tuple[Any, ...]

    def marks(self) -> Iterator[tuple[str, str, Any]]:
        for operand in self.operands:
            yield self.subject.key, self.operator, operand


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Where conditions on one subject stand, by exact value, and by prefix and suffix by length."""

    subject: Subject
    exact: _Positions = field(default_factory=dict)
    prefixes: dict[int, _Positions] = field(default_factory=dict)
    suffixes: dict[int, _Positions] = field(default_factory=dict)

    def put(self, demand: _RequiredValues, position: int) -> None:
        for operand in demand.operands:
            match demand.operator:
                case "prefix":
                    positions = self.prefixes.setdefault(len(operand), {})
                case "suffix":
                    positions = self.suffixes.setdefault(len(operand), {})
                case _:
                    positions = self.exact
            positions.setdefault(operand, []).append(position)

    def collect(self, request: Request, found: list[int]) -> None:
        """Add the positions of the conditions that the values of a request point to."""
        for value in self.subject.read(request):
            sought = value.casefold() if isinstance(value, str) else value
            if positions := self.exact.get(sought):
                found += positions
            if not isinstance(sought, str):
                continue
            for length, by_prefix in self.prefixes.items():
                if positions := by_prefix.get(sought[:length]):
                    found += positions
            for length, by_suffix in self.suffixes.items():
                if positions := by_suffix.get(sought[-length:]):
                    found += positions


def _demands(condition: Condition) -> list[_RequiredValues]:
    return [
        _RequiredValues(clause.subject, clause.operator, tuple(map(_folded, clause.operands)))
        for clause in required(condition)
        if clause.operator in _INDEXED and not clause.negated
    ]


def _folded(operand: Any) -> Any:
    return operand.casefold() if isinstance(operand, str) else operand
