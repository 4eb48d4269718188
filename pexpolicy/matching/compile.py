"""From a ``when`` as it was written to a condition that can be asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from pexpolicy.matching.clauses import Clause, clause
from pexpolicy.matching.conditions import All, AnyOf, Condition, NoneOf, TimeCondition, WallClock
from pexpolicy.matching.settings import (
    NEGATION,
    AliasOperators,
    OnFlag,
    OnNumber,
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

_OPTIONS = frozenset(("case_sensitive", "values", *ALIAS_PARTS))
_GROUPS: dict[str, Callable[[tuple[Condition, ...]], Condition]] = {
    "all": All,
    "any": AnyOf,
    "none": NoneOf,
}
_PARAMETERS = known_parameters()


def compile_when(when: When, clock: WallClock = time.time) -> Condition:
    """The condition of a ``when``; everything that can be prepared is.

    ``clock`` gives seconds since 1970. An empty ``when`` matches each request.
    """
    parts = tuple(part for key in _written(when) for part in _parts(when, key, clock))
    return parts[0] if len(parts) == 1 else All(parts)


def _written(tables: Any) -> list[str]:
    """The keys that were written, in the order in which they stand in the model."""
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


def _clauses(subject: Subject, table: TextOperators | OnNumber | OnFlag) -> Iterator[Clause]:
    every = getattr(table, "values", "any") == "all"
    case_sensitive = getattr(table, "case_sensitive", False)
    for key in _written(table):
        if key in _OPTIONS:
            continue
        written = getattr(table, key)
        operator = key.removeprefix(NEGATION)
        yield clause(
            subject,
            "equals" if operator == "one_of" else operator,
            tuple(written) if isinstance(written, list) else (written,),
            negated=key.startswith(NEGATION),
            every=every,
            case_sensitive=case_sensitive,
        )
    if isinstance(table, AliasOperators):
        for part in ALIAS_PARTS:
            if (inner := getattr(table, part)) is not None:
                yield from _clauses(of_alias_part(subject.attribute, part), inner)
