"""Coverage: which rooms, rules and other items of plugins have decided, and which never."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from pexpolicy.models.decision import Decision
from pexpolicy.models.outcome import AdjustedStep, Outcome
from pexpolicy.plugins.plugin import collect
from pexpolicy.policy import Policy

WHAT = "tuples of a kind, a name, and a decision or its reason"


class CoverageItem(NamedTuple):
    """Something that a plugin decides by."""

    plugin: str
    kind: str
    """Such as ``room``, ``rule`` or ``subnet``."""
    name: str


class Coverage:
    """Counts the decisions of each item of a serving policy.

    ``problems`` are about plugins that cannot describe their items.
    """

    def __init__(self, policy: Policy) -> None:
        self.used: Counter[CoverageItem] = Counter()
        self.problems: list[str] = []
        items: dict[CoverageItem, None] = {}
        self._by_decision: dict[int, list[CoverageItem]] = {}
        self._by_reason: dict[tuple[str, str], list[CoverageItem]] = {}
        self._decisions: list[Decision] = []
        for plugin in policy.plugins:
            found, problems = collect(plugin, "coverage_items", _is_item, WHAT)
            self.problems += [problem.text for problem in problems]
            for kind, name, decided in found:
                item = CoverageItem(plugin.name, kind, name)
                items[item] = None
                if isinstance(decided, str):
                    self._by_reason.setdefault((plugin.name, decided), []).append(item)
                else:
                    # Kept, so that no other object gets its identity.
                    self._decisions.append(decided)
                    self._by_decision.setdefault(id(decided), []).append(item)
        self.items = tuple(items)
        """All items, in the order of the plugins."""

    def add(self, outcome: Outcome) -> None:
        """Count the items that made a decision."""
        decision = outcome.decision
        for step in outcome.steps:
            if isinstance(step, AdjustedStep):
                decision = step.before
                break
        for item in self._by_decision.get(id(decision), ()):
            self.used[item] += 1
        for item in self._by_reason.get((outcome.decided_by, decision.reason or ""), ()):
            self.used[item] += 1


def _is_item(item: object) -> bool:
    return (
        isinstance(item, tuple)
        and len(item) == 3  # noqa: PLR2004 - kind, name, and what was decided
        and isinstance(item[0], str)
        and isinstance(item[1], str)
        and isinstance(item[2], str | Decision)
    )
