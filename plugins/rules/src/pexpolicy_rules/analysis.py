"""Warnings about rules that never decide and rules that overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pexpolicy import Request
from pexpolicy.matching import Condition, Index
from pexpolicy_rules.examples import Example, example
from pexpolicy_rules.implication import contradiction, external_conditions, implies, of_request_only
from pexpolicy_rules.rule_set import ReadyRule

MAX_FINDINGS = 20
"""Maximum number of findings for one endpoint."""


def findings(
    endpoint: str, rules: Sequence[ReadyRule], request: type[Request], now: float
) -> Iterator[tuple[ReadyRule, str]]:
    """Yield warnings about the rules of one endpoint, each with its rule."""
    for number, found in enumerate(_Comparison(endpoint, rules, request, now).findings()):
        if number == MAX_FINDINGS:
            yield found[0], f"there are more such warnings for the rules of {endpoint}"
            return
        yield found


class _Comparison:
    """The rules of one endpoint, indexed by what they require of a request."""

    def __init__(
        self, endpoint: str, rules: Sequence[ReadyRule], request: type[Request], now: float
    ) -> None:
        self._endpoint = endpoint
        self._rules = rules
        self._request = request
        self._now = now
        self._conditions: Sequence[Condition] = [of_request_only(rule.condition) for rule in rules]
        self._index = Index(zip(self._conditions, range(len(rules)), strict=True))

    def findings(self) -> Iterator[tuple[ReadyRule, str]]:
        for position, rule in enumerate(self._rules):
            impossible = contradiction(rule.condition, self._request, self._now)
            if impossible is not None:
                yield rule, f"rule {rule} can never match at {self._endpoint}: {impossible}"
            elif (text := self._earlier(position, rule)) is not None:
                yield rule, text

    def _earlier(self, position: int, rule: ReadyRule) -> str | None:
        """Return a warning about an earlier rule that matches some or all of the requests."""
        sample = example(self._conditions[position], self._endpoint)
        if sample is None:
            return None
        request = sample.request()
        overlap: ReadyRule | None = None
        for at in self._index.candidates(request):
            if at >= position:
                break
            if not self._conditions[at].matches(request):
                continue
            earlier = self._rules[at]
            if implies(rule.condition, earlier.condition):
                return _unreachable(rule, earlier, sample)
            overlap = overlap or self._overlapping(at, position)
        return None if overlap is None else _overlap_text(rule, overlap, sample)

    def _overlapping(self, at: int, position: int) -> ReadyRule | None:
        """Return the earlier rule if the two decide differently and it is not a special case."""
        earlier, rule = self._rules[at], self._rules[position]
        is_special_case = implies(self._conditions[at], self._conditions[position])
        if is_special_case or external_conditions(earlier.condition) != external_conditions(
            rule.condition
        ):
            return None
        return None if _agree(earlier, rule, self._endpoint) else earlier


def _agree(one: ReadyRule, other: ReadyRule, endpoint: str) -> bool:
    first, second = one.answers[endpoint], other.answers[endpoint]
    return not first.is_dynamic and not second.is_dynamic and first.fixed == second.fixed


def _unreachable(rule: ReadyRule, earlier: ReadyRule, sample: Example) -> str:
    if implies(earlier.condition, rule.condition):
        text = f"rule {rule} is a duplicate: rule {earlier} before it has the same conditions"
        return f"{text}; {sample}"
    return (
        f"rule {rule} never decides: rule {earlier} before it matches all of its requests, such as "
        f"{sample}"
    )


def _overlap_text(rule: ReadyRule, earlier: ReadyRule, sample: Example) -> str:
    return (
        f"rules {earlier} and {rule} overlap: both match {sample}, and the first of them decides; "
        "ignore this if it is intended"
    )
