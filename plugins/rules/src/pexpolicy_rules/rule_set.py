"""Rules of one endpoint in their order, with their decisions and hit counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pexpolicy import Decision, Key, Request
from pexpolicy.matching import All, AnyOf, Condition, Index, captures
from pexpolicy_rules.decisions import Answer

MAX_NOTES = 200
"""Maximum number of rules in an explanation."""


@dataclass(slots=True)
class Hits:
    """Number of decisions of a rule, and the time of the last one in seconds since 1970."""

    count: int = 0
    last: float | None = None


class RuleSummary(NamedTuple):
    """One rule in words, for people."""

    name: str
    endpoints: tuple[str, ...]
    condition: str
    """What a request must have; empty for a rule that matches every request."""
    actions: tuple[str, ...]
    """What it does at each endpoint, such as ``reject`` or ``result``."""
    key: Key
    """Its key in the settings, followed by its file and line if it is in a file."""


@dataclass(frozen=True, slots=True)
class ReadyRule:
    """A compiled rule. ``place`` is its file and line, ``key`` its key in the settings."""

    name: str
    place: str
    key: Key
    condition: Condition
    answers: Mapping[str, Answer]
    """The decisions by endpoint."""
    digest: str = ""
    """A hash of the rule as it is written."""
    hits: Hits = field(default_factory=Hits, compare=False)

    @property
    def summary(self) -> RuleSummary:
        """The rule in words."""
        actions = tuple(answer.action for answer in self.answers.values())
        key = (*self.key, self.place) if self.place else self.key
        return RuleSummary(self.name, tuple(self.answers), str(self.condition), actions, key)

    def __str__(self) -> str:
        return f"{self.name!r} ({self.place})" if self.place else repr(self.name)


class RuleChain:
    """The rules of one endpoint in their order, indexed."""

    def __init__(self, endpoint: str, rules: Sequence[ReadyRule]) -> None:
        self.endpoint = endpoint
        self.rules = tuple(rule for rule in rules if endpoint in rule.answers)
        self._index = Index((rule.condition, rule) for rule in self.rules)

    def decide(self, request: Request, clock: Callable[[], float]) -> Decision | None:
        """Return the decision of the first rule that matches; ``None`` to abstain.

        ``clock`` returns the time of a hit, in seconds since 1970. Raise ``DecisionError`` if the
        values of placeholders make the decision invalid.
        """
        rule = self._index.first(request)
        if rule is None:
            return None
        rule.hits.count += 1
        rule.hits.last = clock()
        answer = rule.answers[self.endpoint]
        if not answer.is_dynamic:
            return answer.fixed
        return answer.render(request, captures(rule.condition, request))

    def explain(self, request: Request) -> Iterator[str]:
        """Yield why each rule does not match, up to the one that decides."""
        for number, rule in enumerate(self.rules):
            if number == MAX_NOTES:
                yield f"and {len(self.rules) - MAX_NOTES} more rules"
                decides = self._index.first(request)
                yield f"the rule that matches: {decides}" if decides else "none of them matches"
                return
            why = rule.condition.why(request)
            if not why:
                yield f"rule {rule}: matches"
                return
            yield f"rule {rule}: {why}"


def alternatives(condition: Condition) -> Iterator[Condition]:
    """Yield the conditions of which one is enough, those inside of others included."""
    if isinstance(condition, All | AnyOf):
        for part in condition.parts:
            if isinstance(condition, AnyOf) and len(condition.parts) > 1:
                yield part
            yield from alternatives(part)
