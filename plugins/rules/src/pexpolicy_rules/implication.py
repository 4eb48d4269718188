"""Implication and contradiction between conditions, without a request.

The analysis is sound and incomplete: every result is true, but not every truth is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from ipaddress import IPv4Network
from itertools import combinations
from typing import cast

from pexpolicy import Alias, Request
from pexpolicy.matching import (
    All,
    AnyOf,
    Clause,
    Comparison,
    Condition,
    InSource,
    NoneOf,
    TimeCondition,
    required,
)
from pexpolicy.subnets import read_subnet

EXTERNAL = (TimeCondition, InSource)
"""Conditions on more than the request."""


def implies(inner: Condition, outer: Condition) -> bool:
    """Return whether every request that matches ``inner`` is known to match ``outer`` too."""
    if outer == inner:
        return True
    if isinstance(outer, All):
        return all(implies(inner, part) for part in outer.parts)
    if isinstance(inner, AnyOf):
        return all(implies(part, outer) for part in inner.parts)
    return _implies_simple(inner, outer) or (
        isinstance(inner, All) and any(implies(part, outer) for part in inner.parts)
    )


def _implies_simple(inner: Condition, outer: Condition) -> bool:
    """Return the same if ``outer`` is not ``All`` and ``inner`` is not ``AnyOf``."""
    match outer:
        case AnyOf(parts):
            return any(implies(inner, part) for part in parts)
        case NoneOf(parts):
            return all(contradiction(All((inner, part))) is not None for part in parts)
        case Clause():
            return any(_clause_implies(clause, outer) for clause in required(inner))
        case _:
            return False


def _clause_implies(clause: Clause, other: Clause) -> bool:
    if clause == other:
        return True
    if "exists" in (clause.operator, other.operator):
        return _implies_existence(clause, other)
    if clause.every != other.every or (other.case_sensitive and not clause.case_sensitive):
        return False
    if clause.negated:
        positive = replace(clause, negated=False), replace(other, negated=False)
        return other.negated and _clause_implies(positive[1], positive[0])
    return _positive_implies(clause, other)


def _positive_implies(clause: Clause, other: Clause) -> bool:
    """Return the same for a clause without negation."""
    if clause.subject.several and (clause.every or other.negated):
        return False
    if clause.operator == "equals":
        values = [_projected(other, clause, operand) for operand in clause.operands]
        return all(value is not None and other.admits((value,)) for value in values)
    return clause.subject == other.subject and not other.negated and _narrower(clause, other)


def _implies_existence(clause: Clause, other: Clause) -> bool:
    if other.operator != "exists" or clause.subject != other.subject:
        return False
    if clause.operator == "exists":
        return bool(clause.operands == other.operands)
    return bool(other.operands[0]) and not clause.negated


def _projected(wanted: Clause, clause: Clause, operand: object) -> object | None:
    """Return the value of one clause's subject if the subject of the other has this value."""
    if wanted.subject == clause.subject:
        return operand
    key, _, part = wanted.subject.key.partition(".")
    if isinstance(operand, Alias) and key == clause.subject.key and part in ("user", "host"):
        return cast("str", getattr(operand, part)) or None
    return None


def _narrower(clause: Clause, other: Clause) -> bool:
    """Return whether an operator implies the same or a related one on one subject."""
    pair = clause.operator, other.operator
    if pair in _BY_TEXT:
        return _each(clause, other, _BY_TEXT[pair])
    match pair:
        case "in_subnet", "in_subnet":
            return all(any(_is_subnet(n, m) for m in other.operands) for n in clause.operands)
        case "greater", "greater":
            return bool(clause.operands[0] >= other.operands[0])
        case "less", "less":
            return bool(clause.operands[0] <= other.operands[0])
        case _:
            return False


_BY_TEXT: Mapping[tuple[str, str], Callable[[str, str], bool]] = {
    ("prefix", "prefix"): str.startswith,
    ("suffix", "suffix"): str.endswith,
    ("prefix", "contains"): str.__contains__,
    ("suffix", "contains"): str.__contains__,
    ("contains", "contains"): str.__contains__,
}
"""Relations between an operand of the first operator and one of the second."""


def _each(clause: Clause, other: Clause, relation: Callable[[str, str], bool]) -> bool:
    fold = str if other.case_sensitive else str.casefold
    theirs = [fold(operand) for operand in other.operands]
    return all(any(relation(fold(mine), o) for o in theirs) for mine in clause.operands)


def _is_subnet(network: str, other: str) -> bool:
    inner, outer = read_subnet(network), read_subnet(other)
    if inner.version != outer.version:
        return False
    return cast("IPv4Network", inner).subnet_of(cast("IPv4Network", outer))


def contradiction(
    condition: Condition, request: type[Request] | None = None, now: float | None = None
) -> str | None:
    """Return why no request can match, or ``None`` if no reason is known.

    ``request`` is the request type of the endpoint. ``now``, in seconds since 1970, is compared
    with the last day of time windows.
    """
    if isinstance(condition, AnyOf):
        reasons = [contradiction(part, request, now) for part in condition.parts]
        return "; ".join(r for r in reasons if r) if all(reasons) else None
    clauses = list(required(condition))
    for clause in clauses:
        if request is not None and _needs(clause) and not clause.subject.is_of(request):
            return f"requests of this endpoint have no {clause.subject.key}"
    for one, other in combinations(clauses, 2):
        if _impossible(one, other) or _impossible(other, one):
            return f"{one} and {other} never match together"
    found = (_part_contradiction(part, clauses, request, now) for part in _parts(condition))
    return next((reason for reason in found if reason is not None), None)


def _part_contradiction(
    part: Condition, clauses: list[Clause], request: type[Request] | None, now: float | None
) -> str | None:
    """Return why one part can never match together with the required clauses."""
    match part:
        case TimeCondition() if now is not None and _is_over(part, now):
            return "its last day is over"
        case Comparison(subject, _, other, negated=False) if request is not None:
            missing = next(
                (one for one in (subject, other.subject) if not one.is_of(request)), None
            )
            return f"requests of this endpoint have no {missing.key}" if missing else None
        case AnyOf():
            return contradiction(part, request, now)
        case NoneOf(parts) if clauses and any(implies(All(tuple(clauses)), p) for p in parts):
            return "a condition of none is required elsewhere"
        case _:
            return None


def _needs(clause: Clause) -> bool:
    """Return whether a clause requires a value."""
    return clause.operands[0] is True if clause.operator == "exists" else not clause.negated


def _impossible(clause: Clause, other: Clause) -> bool:
    """Return whether the two are known never to match together."""
    if clause.operator == "exists":
        return clause.operands[0] is False and clause.subject == other.subject and _needs(other)
    if clause.negated or clause.subject.several or other.operator == "exists":
        return False
    if clause.operator == "equals":
        if other.case_sensitive and not clause.case_sensitive:
            return False
        values = [_projected(other, clause, operand) for operand in clause.operands]
        return all(value is not None and not other.admits((value,)) for value in values)
    same = clause.subject == other.subject and not other.negated
    opposed = (clause.operator, other.operator) == ("greater", "less")
    return bool(same and opposed and clause.operands[0] >= other.operands[0])


def _parts(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, All):
        for part in condition.parts:
            yield from _parts(part)
    else:
        yield condition


def _is_over(at: TimeCondition, now: float) -> bool:
    settings = at.window.settings
    last = [max(settings.dates)] if settings.dates else []
    return min([*last, settings.until or date.max]) < at.window.local(now).date()


def of_request_only(condition: Condition) -> Condition:
    """Return a condition on the request alone, which matches whenever the given one may.

    It has no condition on the time or on a list of a source.
    """
    match condition:
        case All(parts) | AnyOf(parts) if any(isinstance(part, EXTERNAL) for part in parts):
            if isinstance(condition, AnyOf):
                return All(())
            return All(tuple(of_request_only(p) for p in parts if not isinstance(p, EXTERNAL)))
        case All(parts) | AnyOf(parts):
            return type(condition)(tuple(map(of_request_only, parts)))
        case NoneOf(parts):
            return NoneOf(tuple(part for part in parts if of_request_only(part) == part))
        case TimeCondition() | InSource():
            return All(())
        case _:
            return condition


def external_conditions(condition: Condition) -> tuple[Condition, ...]:
    """Return the conditions on the time and on lists that must match."""
    return tuple(part for part in _parts(condition) if isinstance(part, EXTERNAL))
