"""The merging chain: every plugin is asked, and the first value of each field is sent."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from pexpolicy.chain.bound_hook import BoundHook
from pexpolicy.chain.chain import Chain, ChainRun
from pexpolicy.chain.fold import Draft, FoldRun
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.endpoints.base import Endpoint
from pexpolicy.models.decision import Continue, Decision
from pexpolicy.models.outcome import DEFAULT, Outcome
from pexpolicy.models.request import Request


class MergingChain(Chain):
    """A chain that asks every plugin; made by ``merging_chain``. A reject ends it."""

    __slots__ = ()

    async def ask(
        self,
        request: Request,
        tasks: HookTasks,
        decision_id: str = "",
        run: ChainRun | None = None,
    ) -> Outcome:
        """Ask until all have been asked, one rejects, or the budget is gone. Never raises."""
        return await super().ask(
            request, tasks, decision_id, run or _MergeRun(self, Draft(request))
        )


class _MergeRun(FoldRun):
    """The state of one call; ``first`` is the plugin whose values come first."""

    __slots__ = ("first",)

    def __init__(self, chain: Chain, draft: Draft) -> None:
        super().__init__(chain, draft)
        self.first = DEFAULT

    def take(self, decision: Decision) -> bool:
        if decision.action == "reject":
            self.decision, self.has_ended = decision, True
            return False
        before = self.draft.decision
        known = before.set_fields() if before is not None else {}
        given = tuple(name for name in decision.set_fields() if name not in known)
        self.steps[-1] = msgspec.structs.replace(self.steps[-1], fields=given)
        if before is None or (given and not known):
            self.first = self.decided_by
        self.decided_by = self.first
        self.draft.decision = decision
        return True


def merging_chain(
    endpoint: Endpoint[Any],
    links: tuple[BoundHook, ...],
    default: Decision,
    budget: float,
    **options: Any,
) -> MergingChain:
    """Return the merging chain of these plugins."""
    asked = tuple(map(_of_draft, links))
    check = partial(_check, endpoint)
    return MergingChain(endpoint, asked, default, budget, own_check=check, **options)


def _of_draft(link: BoundHook) -> BoundHook:
    ask = link.ask
    return replace(link, ask=lambda draft: ask(draft.request))


def _check(endpoint: Endpoint[Any], answer: object, draft: Draft) -> Decision:
    """Return the decision so far with the fields of an answer that it does not have yet."""
    decision = endpoint.check_answer(answer, draft.request)
    assert isinstance(decision, Decision), "no picture is merged"
    before = draft.decision
    if before is None or decision.action == "reject" or isinstance(before, Continue):
        return decision
    if isinstance(decision, Continue):
        return before
    known = before.set_fields()
    new = {name: value for name, value in decision.set_fields().items() if name not in known}
    if not new:
        return before
    reasons = [reason for reason in (before.reason, decision.reason) if reason]
    merged = type(before).from_result(
        {**known, **new},
        reason="; ".join(dict.fromkeys(reasons)) or None,
        extras=before.extras or decision.extras,
    )
    about_new = (w for w in decision.warnings if w.partition(":")[0] not in known)
    kept = (w for w in (*before.warnings, *about_new) if w not in merged.warnings)
    return merged.with_warnings(*kept)
