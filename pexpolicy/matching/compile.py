"""Compilation of a ``when`` to a condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pexpolicy.matching.clauses import Comparison, FindList, InSource, OtherValue, clause
from pexpolicy.matching.conditions import (
    All,
    AnyOf,
    Condition,
    NoneOf,
    TimeCondition,
    group_names,
)
from pexpolicy.matching.patterns import Pattern
from pexpolicy.matching.settings import (
    NEGATION,
    AliasOperators,
    FlagOperators,
    NumberOperators,
    TextOperators,
    ValueOf,
    When,
)
from pexpolicy.matching.subjects import ALIAS_PARTS, Subject, subject
from pexpolicy.matching.time_window import TimeWindow
from pexpolicy.models.context import WallClock, wall_clock

_OPTIONS = frozenset(("case_sensitive", "values", *ALIAS_PARTS))
_GROUPS: dict[str, Callable[[tuple[Condition, ...]], Condition]] = {
    "all": All,
    "any": AnyOf,
    "none": NoneOf,
}
Operators = TextOperators | NumberOperators | FlagOperators


def compile_when(
    when: When, clock: WallClock | None = None, find_list: FindList | None = None
) -> Condition:
    """Return the condition of a ``when``; an empty one matches every request.

    ``clock`` returns seconds since 1970; by default it is ``wall_clock()``. ``find_list`` returns
    the lists of ``in_source``, whose names the validation of ``when`` has checked.
    """
    return _Compiler(clock or wall_clock(), find_list).condition(when)


def _set_keys(tables: Any) -> list[str]:
    """Return the keys that are set, in the order of the model."""
    return [key for key in type(tables).model_fields if getattr(tables, key) is not None]


def _asks(condition: Condition) -> bool:
    """Return whether a condition may have to ask a source.

    Such a part comes last, so that a request waits for the source only where the other parts do not
    settle the result. The order of parts that capture something is kept: it numbers the groups.
    """
    if isinstance(condition, All | AnyOf | NoneOf):
        return any(map(_asks, condition.parts))
    return isinstance(condition, InSource)


def compile_value_of(written: ValueOf) -> OtherValue:
    """Return what reads the value that a ``ValueOf`` names."""
    pattern = Pattern(written.regex) if written.regex is not None else None
    return OtherValue(subject(written.value_of), pattern)


class _Compiler:
    """Compiles tables with one clock and one set of lists."""

    def __init__(self, clock: WallClock, find_list: FindList | None) -> None:
        self._clock = clock
        self._find_list = find_list

    def condition(self, when: When) -> Condition:
        parts = [part for key in _set_keys(when) for part in self._parts(when, key)]
        parts.sort(key=lambda part: _asks(part) and not group_names(part))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _parts(self, when: When, key: str) -> Iterator[Condition]:
        table = getattr(when, key)
        if key in _GROUPS:
            parts = list(map(self.condition, table))
            if key == "any" and not any(map(group_names, parts)):
                parts.sort(key=_asks)
            yield _GROUPS[key](tuple(parts))
        elif key == "time":
            yield TimeCondition(TimeWindow(table), self._clock)
        elif isinstance(table, dict):
            for name, operators in table.items():
                yield from self._of(subject(f"{key}.{name}"), operators)
        else:
            yield from self._of(subject(key), table)

    def _of(self, tested: Subject, table: Operators) -> Iterator[Condition]:
        """Yield the conditions of the operators on one subject."""
        every = getattr(table, "values", "any") == "all"
        case_sensitive = getattr(table, "case_sensitive", False)
        for key in _set_keys(table):
            if key in _OPTIONS:
                continue
            operands = getattr(table, key)
            operator, negated = key.removeprefix(NEGATION), key.startswith(NEGATION)
            if isinstance(operands, ValueOf):
                other = compile_value_of(operands)
                yield Comparison(tested, operator, other, negated, every, case_sensitive)
            elif operator == "in_source":
                assert self._find_list is not None, "the validation refuses in_source without lists"
                lists = tuple(self._find_list(name, tested.kind) for name in operands)
                yield InSource(tested, tuple(operands), lists, negated, every)
            else:
                yield clause(
                    tested,
                    "equals" if operator == "one_of" else operator,
                    tuple(operands) if isinstance(operands, list) else (operands,),
                    negated=negated,
                    every=every,
                    case_sensitive=case_sensitive,
                )
        if isinstance(table, AliasOperators):
            for part in ALIAS_PARTS:
                if (inner := getattr(table, part)) is not None:
                    yield from self._of(subject(f"{tested.key}.{part}"), inner)
