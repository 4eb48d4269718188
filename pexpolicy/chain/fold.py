"""Checks of answers that build on each other: those of merged and of adjusted decisions."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import replace
from operator import is_
from typing import Any

import msgspec
from msgspec import UNSET

from pexpolicy.endpoints.base import CEILINGS, PROTECTIONS, RIGHTS, Endpoint
from pexpolicy.models.contract import contract_of, objects_in
from pexpolicy.models.decision import Continue, Decision, is_intact, state_of
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.request import Request, withheld_values

Fields = dict[str, Any]
"""The fields of a decision that are set."""
MAY_ADMIT = "write may_admit = true in the table of the plugin if it may"
NARROW = (
    "reject, lower max_callrate_in or max_callrate_out, add a PIN, take a right away, or answer "
    "media_playback with a name of its own and without a transfer"
)


class Draft(msgspec.Struct):
    """A request and the decision on it so far; ``None`` before the first answer."""

    request: Request
    decision: Decision | None = None
    may_admit: bool = False
    """True while a plugin is asked that may turn a reject into an admission."""
    restricts: bool = False
    """True while plugins are asked that may only narrow the decision."""
    protecting: Decision | None = None
    """The last decision of a plugin that decided or may admit: what it protects stays protected."""

    def secrets(self) -> list[str]:
        """Return the secrets in the request and in the decision, to keep them out of logs."""
        found = withheld_values(self.request)
        if self.decision is not None:
            contract = contract_of(type(self.decision))
            for _, inner, fields in objects_in(contract, self.decision.set_fields()):
                found += _texts([fields[name] for name in inner.secrets & fields.keys()])
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
    reasons = dict.fromkeys(filter(None, (before.reason, decision.reason)))
    merged = type(before).from_result(
        {**known, **new},
        reason="; ".join(reasons) or None,
        extras=state_of(before).extras or state_of(decision).extras,
    )
    about_new = (w for w in decision.warnings if w.partition(":")[0] not in known)
    kept = (w for w in (*before.warnings, *about_new) if w not in merged.warnings)
    return merged.with_warnings(*kept)


def check_adjusted(
    endpoint: Endpoint[Any], answer: object, draft: Draft
) -> Decision | Coroutine[Any, Any, Decision] | None:
    """Check an answer as the endpoint does, and that it opens nothing that was closed.

    Where the draft ``restricts``, it must in addition be narrower in all that it changes.
    """
    before = draft.decision
    if answer is before and before is not None and is_intact(before):
        return None
    decision = endpoint.check_answer(answer, draft.request)
    if draft.may_admit or before is None or not isinstance(decision, Decision):
        return decision
    if decision.action == "reject":
        return decision
    if before.action == "reject":
        hint = NARROW if draft.restricts else MAY_ADMIT
        raise _refusal(endpoint, f"it turns a reject into an admission: {hint}")
    if draft.restricts:
        if (field := _changed_otherwise(before, decision, draft.request)) is not None:
            raise _refusal(endpoint, f"it does not narrow {field}: {NARROW}")
    elif decision.action == "continue":
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
    new = _sent(decision)
    for old in (one.set_fields() for one in earlier):
        for name in PROTECTIONS:
            if _has_value(old, name) and not _has_value(new, name):
                raise _refusal(endpoint, f"it removes {name}, which protects the call: {MAY_ADMIT}")
    state.follows = results


def _refusal(endpoint: Endpoint[Any], rule: str) -> DecisionError:
    """Return the error for an answer that Infinity would accept."""
    issue = endpoint.refuse(rule).refusal
    return DecisionError(replace(issue, consequence="Such an answer is not used"))


def _changed_otherwise(before: Decision, after: Decision, request: Request) -> str | None:
    """Return a field that differs in ``after`` and is not narrower; ``None`` if there is none."""
    old, new = _sent(before), _sent(after)
    if _is_refusal(old, new):
        return None
    for name in {**new, **old}:
        was, now = old.get(name, getattr(request, name, UNSET)), new.get(name, UNSET)
        if now != old.get(name, UNSET) and not _is_narrower(name, was, now, old, new):
            return name
    return None


def _is_refusal(old: Fields, new: Fields) -> bool:
    """Return whether a service only plays a message: one with the name of the room would change it
    for everybody, and a transfer may lead to any room.
    """
    names = [str(fields.get("name", "")).strip().casefold() for fields in (old, new)]
    is_playback = new.get("service_type") == "media_playback" and names[0] != names[1]
    return is_playback and "transfer" not in (new.get("on_completion") or {})


def _is_narrower(name: str, was: Any, now: Any, old: Fields, new: Fields) -> bool:
    """Return whether a field that was changed from ``was`` to ``now`` admits less than before."""
    if name == "allow_guests" and not any(_has_value(old, one) for one in PROTECTIONS):
        return True  # guests with fewer rights, where everybody could be a Host
    if name in PROTECTIONS:
        is_unused = name.startswith("guest_") and not new.get("allow_guests")
        return not _has_value(old, name) if now else now is UNSET and is_unused
    if name in CEILINGS:
        return isinstance(now, int) and (not isinstance(was, int) or now <= was)
    order = RIGHTS.get(name, ())
    if now not in order:
        return False
    return now == order[-1] or (was in order and order.index(was) <= order.index(now))


def _sent(decision: Decision) -> Fields:
    """Return the fields that Infinity is sent."""
    return {} if isinstance(decision, Continue) else decision.set_fields()


def _has_value(fields: Fields, name: str) -> bool:
    value = fields.get(name)
    return isinstance(value, str) and bool(value.strip())
