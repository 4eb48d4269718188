"""The rules of each endpoint in their order, with their decisions and hits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pexpolicy import (
    Decision,
    Key,
    Request,
)
from pexpolicy.matching import Condition, Index, captured
from pexpolicy_rules.decisions import Answer

MAX_NOTES = 200
"""Rules that an explanation goes through; nobody reads more."""


@dataclass(slots=True)
class Hits:
    """How often a rule has decided, and when it did last, in seconds since 1970."""

    count: int = 0
    last: float | None = None


@dataclass(frozen=True, slots=True)
class ReadyRule:
    """One rule. ``place`` says where it stands, ``key`` is its key in the settings."""

    name: str
    place: str
    key: Key
    condition: Condition
    answers: Mapping[str, Answer]
    """By endpoint."""
    hits: Hits = field(default_factory=Hits, compare=False)

    def __str__(self) -> str:
        return f"{self.name!r} ({self.place})" if self.place else repr(self.name)


class RuleChain:
    """The rules of one endpoint in their order."""

    def __init__(self, endpoint: str, rules: Sequence[ReadyRule]) -> None:
        self.endpoint = endpoint
        self.rules = tuple(rule for rule in rules if endpoint in rule.answers)
        self._index = Index((rule.condition, rule) for rule in self.rules)

    def decide(self, request: Request, now: float) -> Decision | None:
        """What the first rule that matches decides; ``None`` without one, and for an abstention.

        Raises ``DecisionError`` where what was put into placeholders does not fit.
        """
        rule = self._index.first(request)
        if rule is None:
            return None
        rule.hits.count += 1
        rule.hits.last = now
        answer = rule.answers[self.endpoint]
        if not answer.fills:
            return answer.fixed
        return answer.give(request, captured(rule.condition, request))

    def explain(self, request: Request) -> Iterator[str]:
        """For each rule up to the one that decides: which condition fails on which value."""
        for number, rule in enumerate(self.rules):
            if number == MAX_NOTES:
                yield f"and {len(self.rules) - MAX_NOTES} rules more"
                decides = self._index.first(request)
                yield f"the rule that matches: {decides}" if decides else "none of them matches"
                return
            why = rule.condition.why(request)
            if not why:
                yield f"rule {rule}: matches"
                return
            yield f"rule {rule}: {why}"
