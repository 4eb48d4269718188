"""Plugin class with one hook for each endpoint."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typing_extensions import override

from pexpolicy import (
    ConfigWarning,
    Decision,
    Key,
    Plugin,
    Request,
    SettingsError,
    hookimpl,
    wall_clock,
)
from pexpolicy.files import named_changes
from pexpolicy.matching import Condition
from pexpolicy_rules.analysis import findings
from pexpolicy_rules.builder import RuleBuilder, RuleChain, RuleSummary, alternatives
from pexpolicy_rules.decisions import REQUESTS, Answer
from pexpolicy_rules.settings import Settings


class Rules(Plugin[Settings]):
    """Plugin that decides by the first rule that a request matches, and else abstains."""

    def __init__(self, settings: Settings, clock: Callable[[], float] | None = None) -> None:
        # No answer depends on the time of a hit, so it is not that of the wall clock in a dry run.
        self._hit_clock = clock or time.time
        clock = clock or wall_clock()
        builder = RuleBuilder(settings, clock)
        if builder.problems:
            raise SettingsError(problems=builder.problems)
        self._rules = tuple(builder.rules)
        self._warnings = tuple(builder.warnings)
        self._files = tuple(builder.files)
        self._chains = {name: RuleChain(name, self._rules) for name in REQUESTS}
        self._clock = clock
        self._lists = builder.lists
        for name in REQUESTS:
            setattr(self, name, self._hook(name))

    def _hook(self, endpoint: str) -> Callable[[Request], Awaitable[Any]]:
        async def decide(request: Request) -> Any:
            return self._decide(endpoint, request)

        async def ask(request: Request) -> Any:
            noted = len(request.notes or ())

            def again() -> Any:
                if request.notes is not None:
                    del request.notes[noted:]
                return self._decide(endpoint, request)

            return await self._lists.answer(again, request)

        # Hooks that never wait are cheaper.
        hook: Callable[[Request], Awaitable[Any]] = ask if self._lists.asks else decide
        return hookimpl(specname=endpoint)(hook)

    @property
    def can_reject(self) -> bool:
        """Return whether a rule rejects, so that calls must not pass if the plugin fails."""
        return any(answer.rejects for rule in self._rules for answer in rule.answers.values())

    def rule_summaries(self) -> Sequence[RuleSummary]:
        """Return the rules in their order, in words."""
        return [rule.summary for rule in self._rules]

    def compiled_rules(self, endpoint: str) -> Sequence[tuple[str, Condition, Answer]]:
        """Return name, condition and answer of each rule of an endpoint, in their order."""
        rules = self._chains[endpoint].rules
        return [(rule.name, rule.condition, rule.answers[endpoint]) for rule in rules]

    def _decide(self, endpoint: str, request: Request) -> Any:
        chain = self._chains[endpoint]
        if request.notes is not None:
            request.notes.extend(chain.explain(request))
        return chain.decide(request, self._hit_clock)

    @override
    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Fetch the lists of sources, and keep them up to date."""
        return self._lists.lifespan() if len(self._lists) else nullcontext()

    @override
    def static_decisions(self) -> Iterable[tuple[Key, Decision]]:
        """Yield the decisions, with the keys of their rules; without what has a placeholder."""
        for rule in self._rules:
            for answer in rule.answers.values():
                if (decision := answer.fixed or answer.constant) is not None:
                    place = (rule.place,) if rule.place else ()
                    yield (*rule.key, *place, "then", "result"), decision

    @override
    def coverage_items(self) -> Iterable[tuple[Any, ...]]:
        """Return each rule, and as branches each of its endpoints and alternatives, if several."""
        for rule in self._rules:
            for reason in dict.fromkeys(answer.reason for answer in rule.answers.values()):
                yield "rule", rule.name, reason
            for endpoint, answer in rule.answers.items():
                if len(rule.answers) > 1 and answer.fixed is not None:
                    yield "branch", f"{rule.name}: {endpoint}", answer.fixed
            for reason in dict.fromkeys(answer.reason for answer in rule.answers.values()):
                for part in alternatives(rule.condition):
                    yield "branch", f"{rule.name}: {part}", reason, part.matches

    @override
    def config_warnings(self) -> Iterable[ConfigWarning]:
        """Yield warnings about unreachable or overlapping rules and about doubtful decisions."""
        if not self._rules:
            yield ConfigWarning((), "has no rule that is enabled: it never answers")
        yield from self._warnings
        for text in {chain.doubt for chain in self._chains.values() if chain.doubt}:
            yield ConfigWarning((), text)
        for endpoint, chain in self._chains.items():
            for rule, text in findings(endpoint, chain.rules, REQUESTS[endpoint], self._clock()):
                yield ConfigWarning(rule.key, text)

    @override
    def changes_since(self, previous: Rules) -> Iterable[str]:
        """Name the rules that were added, removed and changed, and those with another place."""
        before = {rule.name: rule.digest for rule in previous._rules}
        after = {rule.name: rule.digest for rule in self._rules}
        yield from named_changes(before, after)
        kept = [name for name in after if name in before]
        if kept != [name for name in before if name in after]:
            yield "changed the order of the rules"

    @override
    def tracked_files(self) -> Iterable[Path]:
        """Return the rule files and the pictures."""
        return self._files

    @override
    def status(self) -> Mapping[str, object]:
        """Return the number of decisions of each rule, and the time of the last one in UTC."""
        return {
            rule.name: {"hits": rule.hits.count, "last_hit": _timestamp(rule.hits.last)}
            for rule in self._rules
        }


def _timestamp(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
