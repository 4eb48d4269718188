"""Running files of cases, and adding up which plugins they reach."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from pexpolicy.models.outcome import ABSTAINED, DECIDED, SKIPPED
from pexpolicy.policy import Policy
from pexpolicy.testing.cases import Case
from pexpolicy.testing.compare import CaseResult, judge


@dataclass(slots=True)
class HookCoverage:
    """How often the cases reached one hook of one plugin, and what came of it."""

    plugin: str
    hook: str
    asked: int = 0
    decided: int = 0
    failed: int = 0
    reasons: set[str] = field(default_factory=set)
    """The reasons of its decisions."""


@dataclass(frozen=True, slots=True)
class Run:
    """The verdicts on all cases, in their order, and what they reached."""

    verdicts: list[CaseResult]
    reached: list[HookCoverage]
    seconds: float

    @property
    def failed(self) -> list[CaseResult]:
        """The verdicts on cases that did not pass."""
        return [verdict for verdict in self.verdicts if not verdict.passed]


async def run_cases(policy: Policy, cases: Iterable[Case]) -> Run:
    """Ask every case, one after the other, of a policy that is opened for it."""
    began = time.perf_counter()
    async with policy.serving():
        verdicts = [await judge(policy, case) for case in cases]
    return Run(verdicts, reached_by(policy, verdicts), time.perf_counter() - began)


def reached_by(policy: Policy, verdicts: Iterable[CaseResult]) -> list[HookCoverage]:
    """What these cases reached, by endpoint and in the order in which the plugins are asked."""
    found = {
        (link.plugin, name): HookCoverage(link.plugin, name)
        for name, chain in policy.chains.items()
        for link in chain.links
    }
    for outcome in (verdict.outcome for verdict in verdicts):
        if outcome is None:
            continue
        for step in outcome.steps:
            if step.outcome == SKIPPED:
                continue
            hook = found[step.plugin, outcome.endpoint]
            hook.asked += 1
            hook.decided += step.outcome == DECIDED
            hook.failed += step.outcome not in (DECIDED, ABSTAINED)
            if step.outcome == DECIDED and outcome.decision.reason:
                hook.reasons.add(outcome.decision.reason)
    return list(found.values())
