"""Warnings about rules that never match, duplicates, and overlaps, with example requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from itertools import islice, product
from typing import Any
from urllib.parse import quote, urlencode

from multidict import MultiDict

from pexpolicy import Alias, Request
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.matching import (
    All,
    AnyOf,
    Clause,
    Comparison,
    Condition,
    Index,
    InSource,
    Subject,
    TimeCondition,
    flattened,
)
from pexpolicy.models.request import ORIGIN, parameters_of, set_origin
from pexpolicy.models.subnets import read_subnet
from pexpolicy_rules.builder import ReadyRule

ANY = "x"
MAX_TRIES = 300
"""Maximum number of combinations of values to try for one example."""
_PER_SUBJECT = 12
_ALTERNATIVES = 8
_BY_NAME = ("params", "idp_attributes")
_TEXTS = (ANY, "example", "1", "1234", "a@example.com", "other@example.org")
_FILLERS: Mapping[str, tuple[Any, ...]] = {
    "text": _TEXTS,
    "alias": _TEXTS,
    "number": (1, 2, 1000),
    "flag": (True, False),
}


@dataclass(frozen=True, slots=True)
class Example:
    """A request of an endpoint: its query parameters, and the alias of its path."""

    endpoint: str
    params: Mapping[str, str]
    alias: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Its client and environment, where a condition is on them."""

    def request(self) -> Request:
        """Return the request."""
        request: Request = ENDPOINTS[self.endpoint].parse(MultiDict(self.params), self.alias)
        set_origin(request, "", **self.origin)
        return request

    def __str__(self) -> str:
        """Return the path with its query, and its origin, for ``pexpolicy explain``."""
        path = ENDPOINTS[self.endpoint].path + quote(self.alias, safe="@:+.")
        query = urlencode(self.params, safe="@:+./~")
        target = f"{path}?{query}" if query else path
        return " --set ".join((target, *(f"{name}={one}" for name, one in self.origin.items())))


def example(condition: Condition, endpoint: str) -> Example | None:
    """Return a request of this endpoint that matches, or ``None`` if none is found."""
    for clauses in islice(_choices(condition), _ALTERNATIVES):
        by_key: dict[str, list[Clause]] = {}
        for clause in clauses:
            subject = clause.subject
            # An alias and its parts are chosen together.
            key = subject.key if subject.attribute in _BY_NAME else subject.attribute
            by_key.setdefault(key, []).append(clause)
        candidates = [list(islice(_values(found), _PER_SUBJECT)) for found in by_key.values()]
        for values in islice(product(*candidates), MAX_TRIES):
            found = _build(endpoint, dict(zip(by_key, values, strict=True)))
            if condition.matches(found.request()):
                return found
    return None


def _choices(condition: Condition) -> Iterator[list[Clause]]:
    """Yield the clauses to satisfy, for each combination of alternatives."""
    if isinstance(condition, Clause):
        yield [condition]
    elif isinstance(condition, AnyOf):
        for part in condition.parts:
            yield from _choices(part)
    elif isinstance(condition, All):
        ways = (list(islice(_choices(part), _ALTERNATIVES)) for part in condition.parts)
        for way in product(*ways):
            yield [clause for clauses in way for clause in clauses]
    else:
        yield []


def _values(clauses: list[Clause]) -> Iterator[Any]:
    """Yield values that satisfy all clauses on one subject; ``None`` leaves it unset."""
    if any(clause.operator == "exists" and clause.operands[0] is False for clause in clauses):
        yield None
        return
    if all(clause.negated for clause in clauses):
        yield None
    parts = {clause.subject.key.partition(".")[2] for clause in clauses}
    if clauses[0].subject.attribute not in _BY_NAME and parts != {""}:
        yield from _aliases(clauses)
        return
    is_text = clauses[0].subject.kind in ("text", "alias")
    for value in _texts(clauses):
        if isinstance(value, str) is is_text and all(c.admits((value,)) for c in clauses):
            yield value


def _aliases(clauses: list[Clause]) -> Iterator[str]:
    """Yield aliases whose parts satisfy their clauses."""
    by_part: dict[str, list[Clause]] = {}
    for clause in clauses:
        by_part.setdefault(clause.subject.key.partition(".")[2], []).append(clause)
    texts = {part: [str(t) for t in _texts(found)] for part, found in by_part.items()}
    yield from texts.get("raw", [])
    for user, host in product(texts.get("user", [ANY]), texts.get("host", ["example.com", ""])):
        yield f"{user}@{host}" if host else user
    yield from texts.get("", [])


def _texts(clauses: list[Clause]) -> list[Any]:
    """Return values that one or two of the clauses suggest."""
    by_operator: dict[str, list[Any]] = {}
    for clause in clauses:
        if not clause.negated:
            by_operator.setdefault(clause.operator, []).extend(clause.operands)
    found: list[Any] = []
    for operator, operands in by_operator.items():
        for operand in operands if operator in _SUGGESTIONS else ():
            found += _SUGGESTIONS[operator](operand)
    for first, last in product(by_operator.get("prefix", ()), by_operator.get("suffix", ())):
        found += [f"{first}{last}", f"{first}{ANY}{last}"]
    return [*dict.fromkeys((*found, *_FILLERS[clauses[0].subject.kind]))]


def _addresses(operand: str) -> Iterable[str]:
    network = read_subnet(operand)
    return (str(network[min(1, network.num_addresses - 1)]),)


_SUGGESTIONS: Mapping[str, Callable[[Any], Iterable[Any]]] = {
    "equals": lambda operand: (str(operand) if isinstance(operand, Alias) else operand,),
    "prefix": lambda operand: (f"{operand}{ANY}", f"{operand}{ANY}@example.com", operand),
    "suffix": lambda operand: (f"{ANY}{operand}", operand),
    "contains": lambda operand: (operand, f"{ANY}{operand}{ANY}"),
    "glob": lambda operand: (operand.replace("*", ANY).replace("?", ANY),),
    "in_subnet": _addresses,
    "greater": lambda operand: (int(operand // 1) + 1, str(int(operand // 1) + 1)),
    "less": lambda operand: (-int(-operand // 1) - 1, str(-int(-operand // 1) - 1)),
}
"""By operator: values that may satisfy it, from one operand."""


def _build(endpoint: str, values: Mapping[str, Any]) -> Example:
    known = parameters_of(ENDPOINTS[endpoint].request)
    params: dict[str, str] = {}
    for key, value in values.items():
        if value is None:
            continue
        name, _, rest = key.partition(".")
        if name == "params":
            params[rest] = str(value)
        elif name in known:
            params[known[name].wire + rest] = str(value)
    alias = values.get("alias") or "a@example.com"
    alias = str(alias) if ENDPOINTS[endpoint].path.endswith("/") else ""
    origin = {name: values[name] for name in ORIGIN if values.get(name) is not None}
    return Example(endpoint, params, alias, origin)


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
    for position, one in enumerate(compared):
        reasons = (_why_never(part, request, now) for part in one.parts)
        if why := next(filter(None, reasons), ""):
            text = f"rule {one.rule} can never match at {endpoint}: {why}"
        else:
            text = _earlier(compared, position, index)
        if text:
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
        is_inside = any(isinstance(one, _EXTERNAL) for one in flattened(All(tested)))
        self.condition = None if is_inside else All(tested)
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


def _why_never(condition: Condition, request: type[Request], now: float) -> str:
    """Return why a condition holds for no request of a type from now on; empty if it may."""
    match condition:
        case AnyOf(parts=parts):
            reasons = [_why_never(part, request, now) for part in parts]
            return "; ".join(reasons) if all(reasons) else ""
        case All(parts=parts):
            return next(filter(None, (_why_never(part, request, now) for part in parts)), "")
        case Clause(subject=subject, negated=False):
            is_absence = condition.operator == "exists" and not condition.operands[0]
            return "" if is_absence else _missing(request, subject)
        case Comparison(subject=subject, other=other, negated=False):
            return _missing(request, subject, other.subject)
        case TimeCondition(window=window):
            last = min(window.until or date.max, max(window.dates or [date.max]))
            return "its last day is over" if last < window.local(now).date() else ""
        case _:
            return ""


def _missing(request: type[Request], *subjects: Subject) -> str:
    missing = next((one for one in subjects if not one.is_of(request)), None)
    return f"requests of this endpoint have no {missing.key}" if missing else ""
