"""Compilation of a ``when`` to a condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pexpolicy.matching.clauses import Clause, clause
from pexpolicy.matching.conditions import All, AnyOf, Condition, NoneOf, TimeCondition
from pexpolicy.matching.settings import (
    NEGATION,
    AliasOperators,
    FlagOperators,
    NumberOperators,
    TextOperators,
    When,
)
from pexpolicy.matching.subjects import (
    ALIAS_PARTS,
    Subject,
    known_parameters,
    of_alias_part,
    of_attribute,
    of_parameter,
    of_peer,
    of_wire_name,
)
from pexpolicy.matching.time_window import TimeWindow
from pexpolicy.models.wall_clock import WallClock, wall_clock

_OPTIONS = frozenset(("case_sensitive", "values", *ALIAS_PARTS))
_GROUPS: dict[str, Callable[[tuple[Condition, ...]], Condition]] = {
    "all": All,
    "any": AnyOf,
    "none": NoneOf,
}
_PARAMETERS = known_parameters()


def compile_when(when: When, clock: WallClock | None = None) -> Condition:
    """Return the condition of a ``when``; an empty one matches every request.

    ``clock`` returns seconds since 1970; by default it is ``wall_clock()``.
    """
    clock = clock or wall_clock()
    parts = tuple(part for key in _set_keys(when) for part in _parts(when, key, clock))
    return parts[0] if len(parts) == 1 else All(parts)


def _set_keys(tables: Any) -> list[str]:
    """Return the keys that are set, in the order of the model."""
    return [key for key in type(tables).model_fields if getattr(tables, key) is not None]


def _parts(when: When, key: str, clock: WallClock) -> Iterator[Condition]:
    table = getattr(when, key)
    if key in _GROUPS:
        yield _GROUPS[key](tuple(compile_when(inner, clock) for inner in table))
    elif key == "time":
        yield TimeCondition(TimeWindow(table), clock)
    elif key == "params":
        for name, operators in table.items():
            yield from _clauses(of_wire_name(name), operators)
    elif isinstance(table, dict):
        for name, operators in table.items():
            yield from _clauses(of_attribute(key, name), operators)
    elif key == "peer":
        yield from _clauses(of_peer(), table)
    else:
        yield from _clauses(of_parameter(key, _PARAMETERS.get(key)), table)


def _clauses(
    subject: Subject, table: TextOperators | NumberOperators | FlagOperators
) -> Iterator[Clause]:
    every = getattr(table, "values", "any") == "all"
    case_sensitive = getattr(table, "case_sensitive", False)
    for key in _set_keys(table):
        if key in _OPTIONS:
            continue
        operands = getattr(table, key)
        operator = key.removeprefix(NEGATION)
        yield clause(
            subject,
            "equals" if operator == "one_of" else operator,
            tuple(operands) if isinstance(operands, list) else (operands,),
            negated=key.startswith(NEGATION),
            every=every,
            case_sensitive=case_sensitive,
        )
    if isinstance(table, AliasOperators):
        for part in ALIAS_PARTS:
            if (inner := getattr(table, part)) is not None:
                yield from _clauses(of_alias_part(subject.attribute, part), inner)
