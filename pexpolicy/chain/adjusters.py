"""The adjusters of an endpoint: plugins that change what another plugin has decided."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pexpolicy.chain.bound_hook import BoundHook
from pexpolicy.chain.chain import Chain
from pexpolicy.chain.fold import Draft, FoldRun
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.endpoints.base import PROTECTIONS, Endpoint
from pexpolicy.models.decision import Decision
from pexpolicy.models.outcome import ADJUSTED, DECIDED, AdjustedStep, Outcome, Step
from pexpolicy.models.request import Request

ADJUST = "adjust_"
"""The prefix of the names of the hooks that adjust decisions; the endpoint follows."""
_PROTECTION_MARKS = tuple(f'"{name}":'.encode() for name in PROTECTIONS)


@dataclass(frozen=True, slots=True)
class Adjusters:
    """The adjusting plugins of one endpoint, in the order in which they are asked."""

    chain: Chain
    """Made by ``adjusting_chain``."""

    async def adjust(
        self,
        outcome: Outcome,
        tasks: HookTasks,
        steps: list[Step],
        deadline: float | None = None,
    ) -> Outcome:
        """Return the adjusted outcome of a call, with its steps appended to ``steps``.

        ``deadline`` is a time of the clock of the chain. Never raises.
        """
        run = _AdjustRun(self.chain, outcome, steps)
        if deadline is not None:
            run.deadline = deadline
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
            steps,
            run.eventful or outcome.has_slow_or_failed_steps,
            run.adjusted,
        )


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
        chain = self.adjusters.chain
        deadline = chain.clock() + chain.budget
        outcome = await self.chain.ask(request, tasks, decision_id)
        if not was_decided(outcome):
            return outcome
        return await self.adjusters.adjust(outcome, tasks, outcome.steps, deadline)

    def close(self) -> None:
        """Log the failures that were left out."""
        self.chain.close()
        self.adjusters.chain.close()


class _AdjustRun(FoldRun):
    """The state of one adjustment; ``decided_by`` is the plugin that chose the action."""

    __slots__ = ("adjusted", "by")

    def __init__(self, chain: Chain, outcome: Outcome, steps: list[Step]) -> None:
        super().__init__(chain, Draft(outcome.request, outcome.decision))
        self.steps = steps
        self.by = self.decided_by = outcome.decided_by
        self.adjusted = False

    def take(self, decision: Decision) -> None:
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
    if not any(mark in before.result for mark in _PROTECTION_MARKS):
        return ""
    old, new = before.set_fields(), after.set_fields()
    lost = (name for name in PROTECTIONS if _has_value(old, name) and not _has_value(new, name))
    return next(lost, "")


def _has_value(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    return isinstance(value, str) and bool(value.strip())
