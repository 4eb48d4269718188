"""Warnings about rules that never decide and rules that overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pexpolicy import Request
from pexpolicy.matching import Condition, Index
from pexpolicy_rules.examples import Example, example
from pexpolicy_rules.implication import contradiction, covers, timeless, times
from pexpolicy_rules.rule_set import ReadyRule

MAX_TOLD = 20
"""Findings that are told of one endpoint; whoever has more begins with these."""


def findings(
    endpoint: str, rules: Sequence[ReadyRule], request: type[Request], now: float
) -> Iterator[tuple[ReadyRule, str]]:
    """What is odd about the rules of one endpoint, each with the rule that it is about."""
    for told, found in enumerate(_Comparison(endpoint, rules, request, now).findings()):
        if told == MAX_TOLD:
            yield found[0], f"there is more like this among the rules of {endpoint}"
            return
        yield found


class _Comparison:
    """The rules of one endpoint without their times, indexed."""

    def __init__(
        self, endpoint: str, rules: Sequence[ReadyRule], request: type[Request], now: float
    ) -> None:
        self._endpoint = endpoint
        self._rules = rules
        self._request = request
        self._now = now
        self._conditions: Sequence[Condition] = [timeless(rule.condition) for rule in rules]
        self._index = Index(zip(self._conditions, range(len(rules)), strict=True))

    def findings(self) -> Iterator[tuple[ReadyRule, str]]:
        for position, rule in enumerate(self._rules):
            impossible = contradiction(rule.condition, self._request, self._now)
            if impossible is not None:
                yield rule, f"rule {rule} can never match at {self._endpoint}: {impossible}"
            elif (text := self._taken(position, rule)) is not None:
                yield rule, text

    def _taken(self, position: int, rule: ReadyRule) -> str | None:
        """What an earlier rule takes from this one."""
        shown = example(self._conditions[position], self._endpoint)
        if shown is None:
            return None
        request = shown.request()
        overlap: ReadyRule | None = None
        for at in self._index.candidates(request):
            if at >= position:
                break
            if not self._conditions[at].matches(request):
                continue
            earlier = self._rules[at]
            if covers(earlier.condition, rule.condition):
                return _hidden(rule, earlier, shown)
            overlap = overlap or self._overlapping(at, position)
        return None if overlap is None else _overlapped(rule, overlap, shown)

    def _overlapping(self, at: int, position: int) -> ReadyRule | None:
        """The earlier rule, where the two differ in what they decide and neither is a special case
        of the other.
        """
        earlier, rule = self._rules[at], self._rules[position]
        exception = covers(self._conditions[position], self._conditions[at])
        if exception or times(earlier.condition) != times(rule.condition):
            return None
        return None if _agree(earlier, rule, self._endpoint) else earlier


def _agree(one: ReadyRule, other: ReadyRule, endpoint: str) -> bool:
    first, second = one.answers[endpoint], other.answers[endpoint]
    return not first.fills and not second.fills and first.fixed == second.fixed


def _hidden(rule: ReadyRule, earlier: ReadyRule, shown: Example) -> str:
    if covers(rule.condition, earlier.condition):
        return (
            f"rule {rule} is a duplicate: rule {earlier} before it has the same conditions; {shown}"
        )
    return (
        f"rule {rule} never decides: rule {earlier} before it matches all that it would match, "
        f"such as {shown}"
    )


def _overlapped(rule: ReadyRule, earlier: ReadyRule, shown: Example) -> str:
    return (
        f"rules {earlier} and {rule} overlap: both match {shown}, and the first of them decides; "
        "if that is meant, nothing is to be done"
    )
