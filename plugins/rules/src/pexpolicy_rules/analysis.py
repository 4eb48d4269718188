"""Warnings about rules that never match, duplicates, and rules that overlap."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Sequence
from datetime import date

from pexpolicy import Request
from pexpolicy.matching import (
    All,
    AnyOf,
    Clause,
    Comparison,
    Condition,
    Index,
    InSource,
    NoneOf,
    Subject,
    TimeCondition,
)
from pexpolicy_rules.examples import example
from pexpolicy_rules.rule_set import ReadyRule

MAX_FINDINGS = 20
"""Maximum number of findings for one endpoint."""
Parts = KeysView[Condition]
"""The conditions of a rule that all must hold, in their order."""
_EXTERNAL = (TimeCondition, InSource)
"""Conditions on more than the request."""


def findings(
    endpoint: str, rules: Sequence[ReadyRule], request: type[Request], now: float
) -> Iterator[tuple[ReadyRule, str]]:
    """Yield warnings about the rules of one endpoint, each with its rule.

    ``now``, in seconds since 1970, is compared with the last day of time windows.
    """
    parts = [dict.fromkeys(_parts(rule.condition)).keys() for rule in rules]
    tested = [_on_request(found) for found in parts]
    index = Index((one or All(()), at) for at, one in enumerate(tested))
    number = 0
    for position, rule in enumerate(rules):
        reasons = (_why_never(part, request, now) for part in parts[position])
        if why := next(filter(None, reasons), ""):
            text = f"rule {rule} can never match at {endpoint}: {why}"
        else:
            text = _earlier(endpoint, rules, parts, tested, index, position)
        if text and number == MAX_FINDINGS:
            yield rule, f"there are more such warnings for the rules of {endpoint}"
            return
        if text:
            number += 1
            yield rule, text


def _earlier(
    endpoint: str,
    rules: Sequence[ReadyRule],
    parts: Sequence[Parts],
    tested: Sequence[Condition | None],
    index: Index[int],
    position: int,
) -> str:
    """Return a warning about an earlier rule that matches the example of a rule."""
    rule, condition, own = rules[position], tested[position], parts[position]
    sample = None if condition is None else example(condition, endpoint)
    if sample is None:
        return ""
    request, overlap = sample.request(), ""
    for at in index.candidates(request):
        earlier, one = rules[at], tested[at]
        if at >= position:
            break
        if one is None or not one.matches(request):
            continue
        if parts[at] == own:
            same = f"rule {earlier} before it has the same conditions; {sample}"
            return f"rule {rule} is a duplicate: {same}"
        if parts[at] < own:
            taken = f"rule {earlier} before it matches all of its requests, such as {sample}"
            return f"rule {rule} never decides: {taken}"
        typical = example(one, endpoint)
        is_special_case = own < parts[at] or (
            condition is not None and typical is not None and condition.matches(typical.request())
        )
        is_at_other_times = _external(parts[at]) != _external(own)
        if not (overlap or is_special_case or is_at_other_times or _agree(earlier, rule, endpoint)):
            overlap = (
                f"rules {earlier} and {rule} overlap: both match {sample}, and the first of them "
                "decides; ignore this if it is intended"
            )
    return overlap


def _agree(one: ReadyRule, other: ReadyRule, endpoint: str) -> bool:
    first, second = one.answers[endpoint], other.answers[endpoint]
    return not first.is_dynamic and not second.is_dynamic and first.fixed == second.fixed


def _parts(condition: Condition) -> Iterator[Condition]:
    """Yield the conditions that all must hold."""
    if isinstance(condition, All):
        for part in condition.parts:
            yield from _parts(part)
    else:
        yield condition


def _external(parts: Parts) -> frozenset[Condition]:
    return frozenset(part for part in parts if isinstance(part, _EXTERNAL))


def _on_request(parts: Parts) -> Condition | None:
    """Return the parts that the request alone decides; ``None`` if others are inside of them."""
    kept = tuple(part for part in parts if not isinstance(part, _EXTERNAL))
    return None if any(map(_holds_external, kept)) else All(kept)


def _holds_external(condition: Condition) -> bool:
    if isinstance(condition, All | AnyOf | NoneOf):
        return any(map(_holds_external, condition.parts))
    return isinstance(condition, _EXTERNAL)


def _why_never(condition: Condition, request: type[Request], now: float) -> str:
    """Return why a condition holds for no request of a type from now on; empty if it may."""
    match condition:
        case AnyOf(parts=parts):
            reasons = [_why_never(part, request, now) for part in parts]
            return "; ".join(reasons) if all(reasons) else ""
        case All(parts=parts):
            return next(filter(None, (_why_never(part, request, now) for part in parts)), "")
        case Clause(subject=subject, negated=False) if not _is_absence(condition):
            return _missing(request, subject)
        case Comparison(subject=subject, other=other, negated=False):
            return _missing(request, subject, other.subject)
        case TimeCondition() if _last_day(condition) < condition.window.local(now).date():
            return "its last day is over"
        case _:
            return ""


def _is_absence(clause: Clause) -> bool:
    return clause.operator == "exists" and clause.operands == (False,)


def _missing(request: type[Request], *subjects: Subject) -> str:
    missing = next((one for one in subjects if not one.is_of(request)), None)
    return f"requests of this endpoint have no {missing.key}" if missing else ""


def _last_day(at: TimeCondition) -> date:
    settings = at.window.settings
    days = [max(settings.dates)] if settings.dates else []
    return min([*days, settings.until or date.max])
