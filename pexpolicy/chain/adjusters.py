"""The adjusters of an endpoint: plugins that change what another plugin has decided."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pexpolicy.chain.bound_hook import BoundHook
from pexpolicy.chain.chain import Chain, ChainRun
from pexpolicy.chain.fold import Draft, FoldRun
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.endpoints.base import PROTECTIONS, Endpoint
from pexpolicy.models.decision import Decision
from pexpolicy.models.outcome import ADJUSTED, DECIDED, AdjustedStep, Outcome
from pexpolicy.models.request import Request

ADJUST = "adjust_"
"""The prefix of the names of the hooks that adjust decisions; the endpoint follows."""
_PROTECTED = re.compile(f'"(?:{"|".join(PROTECTIONS)})":'.encode())


@dataclass(frozen=True, slots=True)
class Adjusters:
    """The adjusting plugins of one endpoint, in the order in which they are asked."""

    chain: Chain
    """Made by ``adjusting_chain``."""

    async def adjust(self, outcome: Outcome, tasks: HookTasks) -> Outcome:
        """Return the adjusted outcome of a call, with the steps of the adjusters only.

        They have the budget of their own chain. Never raises.
        """
        run = AdjustRun(self.chain, outcome.request, outcome.decision, outcome.decided_by)
        return await self.finish(run, outcome, tasks)

    async def finish(self, run: AdjustRun, outcome: Outcome, tasks: HookTasks) -> Outcome:
        """Ask those of a run that were not asked yet, and return the adjusted outcome."""
        if run.at < len(self.chain.links) and not run.has_ended:
            await run.ask_all(tasks)
        decision = run.decision if run.has_ended else run.draft.decision
        assert decision is not None
        if not decision.is_intact:
            decision = self.chain.refusal("an adjusted decision was changed after it was checked")
        return Outcome(
            outcome.decision_id,
            outcome.endpoint,
            outcome.request,
            decision,
            run.decided_by,
            run.steps,
            run.eventful or outcome.has_slow_or_failed_steps,
            run.adjusted,
        )


class AdjustRun(FoldRun):
    """The state of one adjustment; ``decided_by`` is the plugin that chose the action."""

    __slots__ = ("adjusted", "by")

    def __init__(self, chain: Chain, request: Request, decision: Decision, decided_by: str) -> None:
        super().__init__(chain, Draft(request, decision))
        self.by = self.decided_by = decided_by
        self.adjusted = False

    def take(self, decision: Decision) -> None:
        """Make an answer the decision so far."""
        before, step = self.draft.decision, self.steps[-1]
        assert before is not None
        if decision.action == before.action:
            self.decided_by = self.by
        self.by = self.decided_by
        self.steps[-1] = AdjustedStep(
            step.plugin, step.outcome, step.ms, hook=step.hook, before=before, after=decision
        )
        self.adjusted = True
        self.draft.decision = decision

    def refuse(self, link: BoundHook, reason: str) -> None:
        """End with a reject; one that a plugin has decided stays."""
        super().refuse(link, reason)
        before = self.draft.decision
        if before is not None and before.action == "reject":
            self.decision, self.decided_by = before, self.by


class _DecidingRun(ChainRun):
    """The state of one call whose decision is adjusted, if possible in the task that decided."""

    __slots__ = ("adjusters", "adjusting")

    def __init__(self, chain: Chain, request: Request, adjusters: Chain) -> None:
        super().__init__(chain, request)
        self.adjusters = adjusters
        self.adjusting: AdjustRun | None = None

    @property
    def names(self) -> tuple[str, str]:
        """The plugin that is being asked, and its hook."""
        return super().names if self.adjusting is None else self.adjusting.names

    async def run(self) -> None:
        """Ask the plugins that share the next task, and adjusters where none of them can wait."""
        abandoned = self.abandoned
        await super().run()
        if abandoned != self.abandoned or self.decision is None:
            return
        if self.steps[-1].outcome == DECIDED:
            run = AdjustRun(self.adjusters, self.request, self.decision, self.decided_by)
            run.steps, run.began, run.deadline = self.steps, self.began, self.deadline
            self.adjusting = run
            decided = self.chain.links[self.at - 1]
            if not decided.may_wait and not self.adjusters.links[0].may_wait:
                await run.run()


@dataclass(frozen=True, slots=True)
class AdjustedChain:
    """A chain and the adjusters of its decisions, within the same budget.

    They are asked about a decision of a plugin only, not about the default or a reject that follows
    a failure: nobody decided those.
    """

    chain: Chain
    adjusters: Adjusters
    endpoint: Endpoint[Any] = field(init=False)
    default: Decision = field(init=False)
    links: tuple[BoundHook, ...] = field(init=False)
    """The plugins of both."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoint", self.chain.endpoint)
        object.__setattr__(self, "default", self.chain.default)
        object.__setattr__(self, "links", self.chain.links + self.adjusters.chain.links)

    async def ask(self, request: Request, tasks: HookTasks, decision_id: str = "") -> Outcome:
        """Ask the chain, and then the adjusters. Never raises."""
        deciding = _DecidingRun(self.chain, request, self.adjusters.chain)
        outcome = await self.chain.ask(request, tasks, decision_id, deciding)
        run = deciding.adjusting
        if run is None:
            if not was_decided(outcome):
                return outcome
            run = AdjustRun(self.adjusters.chain, request, outcome.decision, outcome.decided_by)
            run.steps, run.deadline = outcome.steps, deciding.deadline
        elif outcome.decision is not deciding.decision:
            return outcome
        return await self.adjusters.finish(run, outcome, tasks)

    def close(self) -> None:
        """Log the failures that were left out."""
        self.chain.close()
        self.adjusters.chain.close()


def adjusting_chain(
    endpoint: Endpoint[Any], links: tuple[BoundHook, ...], budget: float, **options: Any
) -> Chain:
    """Return the chain of adjusters; its links take a ``Draft``."""
    check = partial(_check, endpoint)
    hook = ADJUST + endpoint.name
    return Chain(endpoint, links, endpoint.default, budget, hook=hook, own_check=check, **options)


def was_decided(outcome: Outcome) -> bool:
    """Return true where a plugin decided, and false for the default and the reject of a failure."""
    by = outcome.decided_by
    return any(s.plugin == by and s.outcome in (DECIDED, ADJUSTED) for s in outcome.steps)


def _check(
    endpoint: Endpoint[Any], answer: object, draft: Draft
) -> Decision | Coroutine[Any, Any, Decision]:
    """Check an answer as the endpoint does, and that it opens nothing that was closed."""
    decision = endpoint.check_answer(answer, draft.request)
    before = draft.decision
    if isinstance(decision, Decision) and before is not None and not draft.may_admit:
        if before.action == "reject" and decision.action != "reject":
            raise endpoint.refuse(
                "it turns a reject into an admission: write may_admit = true in the table of the "
                "plugin if it may"
            )
        if decision.action == "continue" and (lost := _lost_protection(before, decision)):
            raise endpoint.refuse(
                f"it removes {lost}, which protects the call: write may_admit = true in the table "
                "of the plugin if it may"
            )
    return decision


def _lost_protection(before: Decision, after: Decision) -> str:
    """Return a field without which more callers are admitted, if ``after`` lacks it."""
    if _PROTECTED.search(before.result) is None:
        return ""
    old, new = before.set_fields(), after.set_fields()
    lost = (name for name in PROTECTIONS if _has_value(old, name) and not _has_value(new, name))
    return next(lost, "")


def _has_value(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    return isinstance(value, str) and bool(value.strip())
