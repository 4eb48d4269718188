"""Checks of answers that build on each other: those of merged and of adjusted decisions."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import replace
from operator import is_
from typing import Any

import msgspec

from pexpolicy.endpoints.base import PROTECTIONS, Endpoint
from pexpolicy.models.contract import contract_of, fields_in
from pexpolicy.models.decision import Continue, Decision, is_intact, state_of
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.request import Request, withheld_values

ADJUST = "adjust_"
"""The prefix of the names of the hooks that adjust decisions; the endpoint follows."""


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
            contract = contract_of(type(self.decision))
            for _, inner, name, value in fields_in(contract, self.decision.set_fields()):
                if name in inner.secrets:
                    found += _texts(value)
        return found


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value of JSON that are not empty."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def check_merged(endpoint: Endpoint[Any], answer: object, draft: Draft) -> Decision:
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


def check_adjusted(
    endpoint: Endpoint[Any], answer: object, draft: Draft
) -> Decision | Coroutine[Any, Any, Decision] | None:
    """Check an answer as the endpoint does, and that it opens nothing that was closed."""
    before = draft.decision
    if answer is before and before is not None and is_intact(before):
        return None
    decision = endpoint.check_answer(answer, draft.request)
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
    if decision.action == "continue":
        # Nor may several adjusters in turn remove it, such as by way of a redirect.
        _check_protections(endpoint, decision, (before, draft.protecting or before))
    return decision


def _check_protections(
    endpoint: Endpoint[Any], decision: Decision, earlier: tuple[Decision, Decision]
) -> None:
    state = state_of(decision)
    results = earlier[0].result, earlier[1].result
    # The same two meet in most calls: comparing them costs 8 % of a call.
    if state.follows and all(map(is_, results, state.follows)):
        return
    for one in earlier:
        if lost := _lost_protection(one, decision):
            raise _refusal(
                endpoint,
                f"it removes {lost}, which protects the call: write may_admit = true in the "
                "table of the plugin if it may",
            )
    state.follows = results


def _refusal(endpoint: Endpoint[Any], rule: str) -> DecisionError:
    """Return the error for an answer that Infinity would accept."""
    issue = endpoint.refuse(rule).refusal
    return DecisionError(replace(issue, consequence="Such an answer is not used"))


def _lost_protection(before: Decision, after: Decision) -> str:
    """Return a field without which more callers are admitted, if ``after`` lacks it."""
    old, new = before.set_fields(), {} if isinstance(after, Continue) else after.set_fields()
    lost = (name for name in PROTECTIONS if _has_value(old, name) and not _has_value(new, name))
    return next(lost, "")


def _has_value(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    return isinstance(value, str) and bool(value.strip())
