"""The adjusters of an endpoint: plugins that change what another plugin has decided."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any

from pexpolicy.chain.bound_hook import BoundHook
from pexpolicy.chain.chain import Chain, ChainRun
from pexpolicy.chain.fold import Draft, FoldRun
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.endpoints.base import PROTECTIONS, Endpoint
from pexpolicy.models.decision import Decision
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.outcome import ADJUSTED, DECIDED, AdjustedStep, Outcome
from pexpolicy.models.request import Request

ADJUST = "adjust_"
"""The prefix of the names of the hooks that adjust decisions; the endpoint follows."""
_WHOLE_RESULT = (
    "a dictionary replaces all fields; to change some of them, return decision.replace(name=value)"
)
_PROTECTED = re.compile(f'"(?:{"|".join(PROTECTIONS)})":'.encode())


class AdjustRun(FoldRun):
    """The state of one adjustment; ``by`` is the plugin that chose the action."""

    __slots__ = ("adjusted", "by")

    def __init__(self, chain: Chain, outcome: Outcome) -> None:
        decision = outcome.decision
        super().__init__(chain, Draft(outcome.request, decision, protecting=decision))
        self.by = self.decided_by = outcome.decided_by
        self.adjusted = False

    def take(self, decision: Decision) -> bool:
        """Make an answer the decision so far."""
        draft, steps = self.draft, self.steps
        before, step = draft.decision, steps.pop()
        assert before is not None
        if decision.action == before.action:
            self.decided_by = self.by
        self.by = self.decided_by
        steps.append(
            AdjustedStep(
                step.plugin, step.outcome, step.ms, "", step.hook, before=before, after=decision
            )
        )
        self.adjusted = True
        draft.decision = decision
        if draft.may_admit:
            draft.protecting = decision
        if self.at == self.last:
            # The end: nothing runs any more that could change what was checked a moment ago.
            self.decision = decision
            return False
        return True

    def refuse(self, link: BoundHook, reason: str) -> None:
        """End with a reject; one that a plugin has decided stays."""
        super().refuse(link, reason)
        before = self.draft.decision
        if before is not None and before.action == "reject":
            self.decision, self.decided_by = before, self.by


class _DecideAndAdjustRun(AdjustRun):
    """The state of one call: that of a chain, and once a plugin has decided, of its adjusters."""

    __slots__ = ("adjusters", "is_adjusting")

    def __init__(self, chain: Chain, request: Request, adjusters: Chain) -> None:
        ChainRun.__init__(self, chain, request)
        self.adjusters = adjusters
        self.is_adjusting = self.adjusted = self.has_ended = False

    def continues_after(self, link: BoundHook) -> bool:
        """Begin to adjust, or take an adjustment; return whether the next one shares its task."""
        if self.is_adjusting:
            return super().continues_after(link)
        decision, adjusters = self.decision, self.adjusters
        if self.has_ended or decision is None:
            return False
        self.is_adjusting = True
        self.chain = adjusters
        self.asked = self.draft = Draft(self.request, decision, protecting=decision)
        self.at, self.last, self.decision = 0, len(adjusters.links), None
        self.by = self.decided_by
        return not (link.may_wait or adjusters.links[0].may_wait)

    def undecided(self) -> Decision:
        """Return the adjusted decision, or the default."""
        if self.is_adjusting and (decision := self.draft.decision) is not None:
            return decision
        return self.chain.default

    def refuse(self, link: BoundHook, reason: str) -> None:
        """End with the most restrictive decision."""
        if self.is_adjusting:
            super().refuse(link, reason)
        else:
            ChainRun.refuse(self, link, reason)
            self.has_ended = True


@dataclass(frozen=True, slots=True)
class AdjustedChain:
    """A chain and the adjusters of its decisions, within the same budget.

    They are asked about a decision of a plugin only, not about the default or a reject that follows
    a failure: no plugin decided those.
    """

    chain: Chain
    adjusters: Chain
    """Made by ``adjusting_chain``."""
    endpoint: Endpoint[Any] = field(init=False)
    default: Decision = field(init=False)
    links: tuple[BoundHook, ...] = field(init=False)
    """The plugins of both."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoint", self.chain.endpoint)
        object.__setattr__(self, "default", self.chain.default)
        object.__setattr__(self, "links", self.chain.links + self.adjusters.links)

    def ask(
        self, request: Request, tasks: HookTasks, decision_id: str = ""
    ) -> Coroutine[Any, Any, Outcome]:
        """Ask the chain, and then the adjusters. Never raises."""
        run = _DecideAndAdjustRun(self.chain, request, self.adjusters)
        return self.chain.ask(request, tasks, decision_id, run)

    def close(self) -> None:
        """Log the failures that were left out."""
        self.chain.close()
        self.adjusters.close()


class AdjustedMergingChain(AdjustedChain):
    """The same for a chain that merges."""

    __slots__ = ()

    async def ask(self, request: Request, tasks: HookTasks, decision_id: str = "") -> Outcome:
        """Ask the chain, and then the adjusters. Never raises."""
        deadline = self.chain.clock() + self.chain.budget
        outcome = await self.chain.ask(request, tasks, decision_id)
        if not was_decided(outcome):
            return outcome
        run = AdjustRun(self.adjusters, outcome)
        run.steps, run.deadline = outcome.steps, deadline
        run.eventful = outcome.has_slow_or_failed_steps
        return await self.adjusters.ask(request, tasks, decision_id, run)


async def adjust(adjusters: Chain, outcome: Outcome, tasks: HookTasks) -> Outcome:
    """Return the adjusted outcome of a call, with the steps of the adjusters only.

    They have the budget of their own chain. Never raises.
    """
    run = AdjustRun(adjusters, outcome)
    return await adjusters.ask(outcome.request, tasks, outcome.decision_id, run)


def adjusting_chain(
    endpoint: Endpoint[Any], links: tuple[BoundHook, ...], budget: float, **options: Any
) -> Chain:
    """Return the chain of adjusters; its links take a ``Draft``."""
    # Not a partial: CPython calls a method in its own loop, without a call of C.
    check = MethodType(_check, endpoint)
    hook = ADJUST + endpoint.name
    return Chain(endpoint, links, endpoint.default, budget, hook=hook, own_check=check, **options)


def was_decided(outcome: Outcome) -> bool:
    """Return true where a plugin decided, and false for the default and the reject of a failure."""
    by = outcome.decided_by
    return any(s.plugin == by and s.outcome in (DECIDED, ADJUSTED) for s in outcome.steps)


def _check(
    endpoint: Endpoint[Any], answer: object, draft: Draft
) -> Decision | Coroutine[Any, Any, Decision] | None:
    """Check an answer as the endpoint does, and that it opens nothing that was closed."""
    before = draft.decision
    if answer is before and before is not None and before.is_intact():
        return None
    decision = check_answer(endpoint, answer, draft.request)
    if draft.may_admit or before is None or not isinstance(decision, Decision):
        return decision
    if decision.action == "reject":
        return decision
    if before.action == "reject":
        raise _refusal(
            endpoint,
            "it turns a reject into an admission: write may_admit = true in the table of the "
            "plugin if it may",
        )
    if decision.action == "continue" and (
        (lost := _lost_protection(before, decision))
        # Nor may several adjusters in turn remove it, such as by way of a redirect.
        or (
            (protecting := draft.protecting) is not before
            and (lost := _lost_protection(protecting, decision))
        )
    ):
        raise _refusal(
            endpoint,
            f"it removes {lost}, which protects the call: write may_admit = true in the table of "
            "the plugin if it may",
        )
    return decision


def check_answer(
    endpoint: Endpoint[Any], answer: object, request: Request
) -> Decision | Coroutine[Any, Any, Decision]:
    """Check an answer as the endpoint does; a dictionary was perhaps meant as a part."""
    try:
        return endpoint.check_answer(answer, request)
    except DecisionError as error:
        if not isinstance(answer, dict):
            raise
        raise DecisionError(replace(error.refusal, doc=_WHOLE_RESULT)) from None


def _refusal(endpoint: Endpoint[Any], rule: str) -> DecisionError:
    """Return the error for an answer that Infinity would accept."""
    issue = endpoint.refuse(rule).refusal
    return DecisionError(replace(issue, consequence="Such an answer is not used"))


def _lost_protection(before: Decision | None, after: Decision) -> str:
    """Return a field without which more callers are admitted, if ``after`` lacks it."""
    # Where fields were only added, the JSON begins as before.
    if before is None or (after.sends_result and after.result.startswith(before.result[:-1])):
        return ""
    if _PROTECTED.search(before.result) is not None:
        old, new = before.set_fields(), after.set_fields() if after.sends_result else {}
        for name in PROTECTIONS:
            if _has_value(old, name) and not _has_value(new, name):
                return name
    return ""


def _has_value(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    return isinstance(value, str) and bool(value.strip())
