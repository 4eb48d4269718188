"""Runner of case files, with the coverage of plugins and hooks."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from pexpolicy.explain.coverage import Coverage
from pexpolicy.models.outcome import ADJUSTED, ANSWERED, DECIDED, SKIPPED
from pexpolicy.models.wall_clock import at_time
from pexpolicy.policy import Policy
from pexpolicy.testing.cases import Case
from pexpolicy.testing.compare import CaseResult, judge


@dataclass(slots=True)
class HookCoverage:
    """How often the cases asked one hook of one plugin, with which outcomes."""

    plugin: str
    hook: str
    asked: int = 0
    decided: int = 0
    failed: int = 0
    reasons: set[str] = field(default_factory=set)
    """The reasons of its decisions."""


@dataclass(frozen=True, slots=True)
class Run:
    """The results of all cases, in their order, and the coverage."""

    results: list[CaseResult]
    coverage: list[HookCoverage]
    seconds: float
    items: Coverage
    """What the plugins decided by."""

    @property
    def failed(self) -> list[CaseResult]:
        """Return the results of cases that did not pass."""
        return [result for result in self.results if not result.passed]


async def run_cases(policy: Policy, cases: Iterable[Case]) -> Run:
    """Open a policy and ask it all cases, one after the other."""
    began = time.perf_counter()
    async with policy.serving():
        items = Coverage(policy)
        results = []
        for case in cases:
            result = await judge(policy, case)
            results.append(result)
            if result.outcome is not None:
                with at_time(policy.wall_clock, case.at):
                    items.add(result.outcome)
    return Run(results, coverage_of(policy, results), time.perf_counter() - began, items)


def coverage_of(policy: Policy, results: Iterable[CaseResult]) -> list[HookCoverage]:
    """Return the coverage of these results, by endpoint and in the order of the plugins."""
    found = {
        (link.plugin, link.hook or name): HookCoverage(link.plugin, link.hook or name)
        for name, chain in policy.chains.items()
        for link in chain.links
    }
    for outcome in (result.outcome for result in results):
        if outcome is None:
            continue
        for step in outcome.steps:
            if step.outcome == SKIPPED:
                continue
            hook = found[step.plugin, step.hook or outcome.endpoint]
            hook.asked += 1
            hook.decided += step.outcome in (DECIDED, ADJUSTED)
            hook.failed += step.outcome not in ANSWERED
            if step.outcome == DECIDED and outcome.decision.reason:
                hook.reasons.add(outcome.decision.reason)
    return list(found.values())
