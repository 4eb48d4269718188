"""Warnings about rules that never match, duplicates, and rules that overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from functools import cached_property

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
from pexpolicy_rules.examples import Example, example
from pexpolicy_rules.rule_set import ReadyRule

MAX_FINDINGS = 20
"""Maximum number of findings for one endpoint."""
_EXTERNAL = (TimeCondition, InSource)
"""Conditions on more than the request."""


def findings(
    endpoint: str, rules: Sequence[ReadyRule], request: type[Request], now: float
) -> Iterator[tuple[ReadyRule, str]]:
    """Yield warnings about the rules of one endpoint, each with its rule.

    ``now``, in seconds since 1970, is compared with the last day of time windows.
    """
    compared = [_Compared(rule, endpoint) for rule in rules]
    index = Index((one.condition or All(()), at) for at, one in enumerate(compared))
    number = 0
    for position, one in enumerate(compared):
        reasons = (_why_never(part, request, now) for part in one.parts)
        if why := next(filter(None, reasons), ""):
            text = f"rule {one.rule} can never match at {endpoint}: {why}"
        else:
            text = _earlier(compared, position, index)
        if text and number == MAX_FINDINGS:
            yield one.rule, f"there are more such warnings for the rules of {endpoint}"
            return
        if text:
            number += 1
            yield one.rule, text


class _Compared:
    """A rule and what others are compared with."""

    def __init__(self, rule: ReadyRule, endpoint: str) -> None:
        self.rule = rule
        self.parts = dict.fromkeys(_parts(rule.condition)).keys()
        """The conditions that all must hold, in their order."""
        self.external = {part for part in self.parts if isinstance(part, _EXTERNAL)}
        tested = tuple(part for part in self.parts if part not in self.external)
        # Without a condition if others are inside of these.
        self.condition = None if any(map(_holds_external, tested)) else All(tested)
        self._endpoint = endpoint

    @cached_property
    def example(self) -> Example | None:
        """Return a request that it matches, if one is found."""
        return None if self.condition is None else example(self.condition, self._endpoint)

    def matches(self, sample: Example | None) -> bool:
        """Return whether it matches an example, as far as the request alone decides."""
        if self.condition is None or sample is None:
            return False
        return self.condition.matches(sample.request())

    def decides_as(self, other: _Compared) -> bool:
        """Return whether it has the same fixed decision as another rule."""
        mine, theirs = (one.rule.answers[self._endpoint] for one in (self, other))
        return not (mine.is_dynamic or theirs.is_dynamic) and mine.fixed == theirs.fixed


def _earlier(compared: Sequence[_Compared], position: int, index: Index[int]) -> str:
    """Return a warning about an earlier rule that matches the example of a rule."""
    own = compared[position]
    if (sample := own.example) is None:
        return ""
    overlap = ""
    for at in index.candidates(sample.request()):
        one = compared[at]
        if at >= position:
            break
        if not one.matches(sample):
            continue
        if one.parts == own.parts:
            same = f"rule {one.rule} before it has the same conditions; {sample}"
            return f"rule {own.rule} is a duplicate: {same}"
        if one.parts < own.parts:
            taken = f"rule {one.rule} before it matches all of its requests, such as {sample}"
            return f"rule {own.rule} never decides: {taken}"
        is_special_case = own.parts < one.parts or own.matches(one.example)
        is_meant = is_special_case or one.external != own.external or one.decides_as(own)
        if not (overlap or is_meant):
            overlap = (
                f"rules {one.rule} and {own.rule} overlap: both match {sample}, and the first of "
                "them decides; ignore this if it is intended"
            )
    return overlap


def _parts(condition: Condition) -> Iterator[Condition]:
    """Yield the conditions that all must hold."""
    if isinstance(condition, All):
        for part in condition.parts:
            yield from _parts(part)
    else:
        yield condition


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
