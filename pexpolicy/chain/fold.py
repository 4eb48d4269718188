"""Chains whose answers build on each other: decisions are merged, or adjusted by other plugins."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from types import MethodType
from typing import Any

import msgspec

from pexpolicy.chain.bound_hook import BoundHook
from pexpolicy.chain.chain import Chain, ChainRun
from pexpolicy.chain.hook_tasks import HookTasks
from pexpolicy.endpoints.base import PROTECTIONS, Endpoint
from pexpolicy.models.contract import contract_of
from pexpolicy.models.decision import Continue, Decision, is_intact, state_of
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.outcome import ADJUSTED, DECIDED, DEFAULT, AdjustedStep, Outcome
from pexpolicy.models.request import Request
from pexpolicy.models.request_secrets import withheld_values

ADJUST = "adjust_"
"""The prefix of the names of the hooks that adjust decisions; the endpoint follows."""
_WHOLE_RESULT = (
    "a dictionary replaces all fields; to change some of them, return decision.replace(name=value)"
)
_PROTECTED = re.compile(f'"(?:{"|".join(PROTECTIONS)})":'.encode())


class Draft(msgspec.Struct):
    """A request and the decision on it so far; ``None`` before the first answer."""

    request: Request
    decision: Decision | None = None
    may_admit: bool = False
    """True while a plugin is asked that may turn a reject into an admission."""
    protecting: Decision | None = None
    """The last decision of a plugin that decided or may admit: what it protects stays protected."""

    def secrets(self) -> list[str]:
        """Return the secrets in the request and in the decision, to keep them out of logs."""
        found = withheld_values(self.request)
        if self.decision is not None:
            model, fields = contract_of(type(self.decision)), self.decision.set_fields()
            for name, value in fields.items():
                if name in model.secrets:
                    found += _texts(value)
                elif (nested := model.nested_models.get(name)) is not None:
                    items = value if isinstance(value, list) else [value]
                    found += _texts(
                        [item.get(secret) for item in items for secret in nested.secrets]
                    )
        return found


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a value of JSON that are not empty."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


class FoldRun(ChainRun):
    """The state of one call whose answers build on each other.

    They are merged by a chain that merges, and a decision is adjusted by the ``adjusters``. A
    reject, of a plugin or for a failure, ends either part early.
    """

    __slots__ = ("adjusted", "adjusters", "by", "draft", "was_refused")

    draft: Draft

    def __init__(self, chain: Chain, request: Request, adjusters: Chain | None = None) -> None:
        super().__init__(chain, request)
        self.adjusters = adjusters
        """Those that are not asked yet."""
        self.adjusted = self.was_refused = False
        self.by = DEFAULT
        """The plugin that is named as the one that decided."""
        self.draft = Draft(request)
        if chain.merges:
            self.asked = self.draft

    def continues_after(self, link: BoundHook) -> bool:
        """Take the answer of a plugin; return whether the next one shares its task."""
        decision, chain = self.decision, self.chain
        if self.was_refused or decision is None:
            return False
        if chain.merges:
            goes_on = self._merge(decision)
        elif chain.adjusts:
            goes_on = self._adjust(decision)
        else:
            goes_on = self.begin_adjusting()
        if not goes_on or link.may_wait or self.at == self.last:
            return False
        return not self.chain.links[self.at].may_wait

    def _merge(self, decision: Decision) -> bool:
        """Send the fields that no earlier plugin has given; return whether the chain goes on."""
        if decision.action == "reject":
            return False
        before = self.draft.decision
        known = before.set_fields() if before is not None else {}
        given = tuple(name for name in decision.set_fields() if name not in known)
        self.steps[-1] = msgspec.structs.replace(self.steps[-1], fields=given)
        if before is None or (given and not known):
            self.by = self.decided_by
        self.decided_by = self.by
        self.draft.decision, self.decision = decision, None
        return True

    def _adjust(self, decision: Decision) -> bool:
        """Make an answer the decision so far; return whether the chain goes on."""
        draft, steps = self.draft, self.steps
        before, step = draft.decision, steps.pop()
        assert before is not None
        if decision.action == before.action:
            self.decided_by = self.by
        self.by = self.decided_by
        step = AdjustedStep(
            step.plugin, step.outcome, step.ms, "", step.hook, before=before, after=decision
        )
        steps.append(step)
        self.adjusted = True
        draft.decision = decision
        if draft.may_admit:
            draft.protecting = decision
        if self.at == self.last:
            # The end: nothing runs any more that could change what was checked a moment ago.
            return False
        self.decision = None
        return True

    def begin_adjusting(self) -> bool:
        """Ask the adjusters about the decision of a plugin, if there is one; return true then."""
        decision = self.decision or self.draft.decision
        if self.adjusters is None or self.was_refused or decision is None:
            return False
        self.adjust(self.adjusters, decision, self.decided_by)
        return True

    def adjust(self, adjusters: Chain, decision: Decision, decided_by: str) -> None:
        """Ask the adjusters about a decision of this plugin."""
        self.chain, self.adjusters = adjusters, None
        self.asked = draft = self.draft
        draft.decision = draft.protecting = decision
        self.at, self.last, self.decision = 0, len(adjusters.links), None
        self.by = self.decided_by = decided_by

    def undecided(self) -> Decision:
        """Return the decision of all answers, or the default."""
        return self.draft.decision or self.chain.default

    def refuse(self, link: BoundHook, reason: str) -> None:
        """End with the most restrictive decision; a reject that a plugin has decided stays."""
        super().refuse(link, reason)
        self.was_refused = True
        before = self.draft.decision
        if self.chain.adjusts and before is not None and before.action == "reject":
            self.decision, self.decided_by = before, self.by


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
        run = FoldRun(self.chain, request, self.adjusters)
        return self.chain.ask(request, tasks, decision_id, run)

    def close(self) -> None:
        """Log the failures that were left out."""
        self.chain.close()
        self.adjusters.close()


async def adjust(adjusters: Chain, outcome: Outcome, tasks: HookTasks) -> Outcome:
    """Return the adjusted outcome of a call, with the steps of the adjusters only.

    They have the budget of their own chain. Never raises.
    """
    run = FoldRun(adjusters, outcome.request)
    run.adjust(adjusters, outcome.decision, outcome.decided_by)
    return await adjusters.ask(outcome.request, tasks, outcome.decision_id, run)


def was_decided(outcome: Outcome) -> bool:
    """Return true where a plugin decided, and false for the default and the reject of a failure."""
    by = outcome.decided_by
    return any(s.plugin == by and s.outcome in (DECIDED, ADJUSTED) for s in outcome.steps)


def merging_chain(
    endpoint: Endpoint[Any],
    links: tuple[BoundHook, ...],
    default: Decision,
    budget: float,
    **options: Any,
) -> Chain:
    """Return a chain that asks every plugin, and sends the first value of each field."""

    def of_draft(link: BoundHook) -> BoundHook:
        ask = link.ask
        return replace(link, ask=lambda draft: ask(draft.request))

    check = partial(_check_merged, endpoint)
    asked = tuple(map(of_draft, links))
    return Chain(
        endpoint, asked, default, budget, own_check=check, new_run=FoldRun, merges=True, **options
    )


def adjusting_chain(
    endpoint: Endpoint[Any], links: tuple[BoundHook, ...], budget: float, **options: Any
) -> Chain:
    """Return the chain of adjusters; its links take a ``Draft``."""
    # Not a partial: CPython calls a method in its own loop, without a call of C.
    check = MethodType(_check_adjusted, endpoint)
    hook = ADJUST + endpoint.name
    return Chain(
        endpoint,
        links,
        endpoint.default,
        budget,
        hook=hook,
        own_check=check,
        adjusts=True,
        **options,
    )


def _check_merged(endpoint: Endpoint[Any], answer: object, draft: Draft) -> Decision:
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
        extras=state_of(before).extras or state_of(decision).extras,
    )
    about_new = (w for w in decision.warnings if w.partition(":")[0] not in known)
    kept = (w for w in (*before.warnings, *about_new) if w not in merged.warnings)
    return merged.with_warnings(*kept)


def _check_adjusted(
    endpoint: Endpoint[Any], answer: object, draft: Draft
) -> Decision | Coroutine[Any, Any, Decision] | None:
    """Check an answer as the endpoint does, and that it opens nothing that was closed."""
    before = draft.decision
    if answer is before and before is not None and is_intact(before):
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
        rule = f"{error.refusal.rule} ({_WHOLE_RESULT})"
        raise DecisionError(replace(error.refusal, rule=rule)) from None


def _refusal(endpoint: Endpoint[Any], rule: str) -> DecisionError:
    """Return the error for an answer that Infinity would accept."""
    issue = endpoint.refuse(rule).refusal
    return DecisionError(replace(issue, consequence="Such an answer is not used"))


def _lost_protection(before: Decision | None, after: Decision) -> str:
    """Return a field without which more callers are admitted, if ``after`` lacks it."""
    # Where fields were only added, the JSON begins as before.
    sends_result = not isinstance(after, Continue)
    if before is None or (sends_result and after.result.startswith(before.result[:-1])):
        return ""
    if _PROTECTED.search(before.result) is not None:
        old, new = before.set_fields(), after.set_fields() if sends_result else {}
        for name in PROTECTIONS:
            if _has_value(old, name) and not _has_value(new, name):
                return name
    return ""


def _has_value(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    return isinstance(value, str) and bool(value.strip())
