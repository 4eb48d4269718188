"""Coverage: which rooms, rules and other items of plugins have decided, and which never."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from pexpolicy.config.problems import Problem
from pexpolicy.config.settings import ConfigError
from pexpolicy.models.decision import Decision
from pexpolicy.models.outcome import ADJUSTED, ANSWERED, DECIDED, SKIPPED, AdjustedStep, Outcome
from pexpolicy.models.request import Request
from pexpolicy.plugins.binding import collect
from pexpolicy.policy import Policy

WHAT = "tuples of a kind, a name, and a decision or its reason, and at most a test of requests"
Test = Callable[[Request], bool]


class CoverageItem(NamedTuple):
    """Something that a plugin decides by."""

    plugin: str
    kind: str
    """Such as ``room``, ``rule`` or ``subnet``."""
    name: str


class Coverage:
    """Counts the decisions of each item of a serving policy, and the steps of each hook.

    Raises ``ConfigError`` for plugins that cannot describe their items.
    """

    def __init__(self, policy: Policy) -> None:
        self.used: Counter[CoverageItem] = Counter()
        problems: list[Problem] = []
        self._deciding: dict[object, list[tuple[CoverageItem, list[Test], object]]] = {}
        """By a plugin and a reason, or by the identity of a decision; with the decision, so that
        no other object gets its identity.
        """
        for plugin in policy.plugins:
            found, more = collect(plugin, "coverage_items", _is_item, WHAT)
            problems += more
            for kind, name, decided, *test in found:
                item = CoverageItem(plugin.name, kind, name)
                self.used[item] = 0
                key = (plugin.name, decided) if isinstance(decided, str) else id(decided)
                self._deciding.setdefault(key, []).append((item, test, decided))
        if problems:
            raise ConfigError(policy.settings.path, problems)
        self.items = tuple(self.used)
        """All items, in the order of the plugins."""
        self.steps: dict[tuple[str, str], Counter[str]] = {
            (link.plugin, link.hook or name): Counter()
            for name, chain in policy.chains.items()
            for link in chain.links
        }
        """The outcomes of each plugin and hook, by endpoint and in the order of the plugins."""
        self.reasons: dict[tuple[str, str], set[str]] = {key: set() for key in self.steps}
        """The reasons of the decisions."""

    def add(self, outcome: Outcome) -> None:
        """Count the steps of a decision and the items that made it, right after the decision."""
        adjusted = (step.before for step in outcome.steps if isinstance(step, AdjustedStep))
        decision = next(adjusted, outcome.decision)
        for item, tests, _ in (
            *self._deciding.get(id(decision), ()),
            *self._deciding.get((outcome.decided_by, decision.reason or ""), ()),
        ):
            self.used[item] += all(_passes(test, outcome.request) for test in tests)
        reason = outcome.decision.reason
        for step in outcome.steps:
            key = (step.plugin, step.hook or outcome.endpoint)
            self.steps[key][step.outcome] += 1
            if step.outcome == DECIDED and reason:
                self.reasons[key].add(reason)

    def hooks(self) -> list[dict[str, Any]]:
        """Return for each hook how often it was asked, decided and failed, as JSON."""
        return [
            {
                "plugin": plugin,
                "hook": hook,
                "asked": steps.total() - steps[SKIPPED],
                "decided": steps[DECIDED] + steps[ADJUSTED],
                "failed": sum(n for kind, n in steps.items() if kind not in (*ANSWERED, SKIPPED)),
                "reasons": sorted(self.reasons[plugin, hook]),
            }
            for (plugin, hook), steps in self.steps.items()
        ]

    def objects(self) -> list[dict[str, Any]]:
        """Return each item as JSON, with the number of its decisions."""
        return [{**item._asdict(), "decided": self.used[item]} for item in self.items]


def _passes(test: Test, request: Request) -> bool:
    try:
        return test(request)
    except Exception:  # noqa: BLE001 - a plugin raises what it likes
        return False


def _is_item(item: object) -> bool:
    match item:
        case (str(), str(), str() | Decision(), *tests):
            return not tests[1:] and all(map(callable, tests))
        case _:
            return False
