"""Comparison of two answers to one call: the changed fields, without secrets."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET

from pexpolicy.audit.redaction import REMOVED, Redaction
from pexpolicy.conformance.disposition import read_envelope
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import JSON
from pexpolicy.models.difference import Changes
from pexpolicy.policy import Answer
from pexpolicy.replay.recorded_reply import EMPTY, RecordedReply, action_word

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def action_of(answer: Answer, redaction: Redaction) -> str:
    """Return the action of an answer, as ``action_word``."""
    reply = answer.reply
    if reply.action != "continue":
        return reply.action
    if reply.content_type != JSON:
        return "continue with result"
    result, removed = redaction.result(answer.outcome.endpoint, answer.outcome.decision)
    # All of a result may be personal, and left out.
    return action_word("continue", has_result=bool(removed) or _encoded(result) not in EMPTY)


def without_ids(reason: str | None) -> str:
    """Return a reason with ``{id}`` for each UUID, which is another one in each call."""
    return _UUID.sub("{id}", reason or "")


def compare_with_record(
    endpoint: str, record: RecordedReply, answer: Answer, redaction: Redaction
) -> Changes:
    """Return what differs between what was sent and an answer, as far as both are known."""
    outcome, reply = answer.outcome, answer.reply
    decision = outcome.decision
    changes: Changes = {}
    if record.action != reply.action:
        changes["action"] = {"from": record.action, "to": reply.action}
    if record.is_ours:
        if record.status != reply.status:
            changes["status"] = {"from": record.status, "to": reply.status}
        if record.decided_by != outcome.decided_by:
            changes["decided_by"] = {"from": record.decided_by, "to": outcome.decided_by}
        if without_ids(record.reason) != without_ids(decision.reason):
            _add(changes, "reason", record.reason or UNSET, decision.reason or UNSET)
    result, removed = redaction.result(endpoint, decision)
    if not isinstance(record.result, msgspec.Raw):
        if reply.content_type == JSON:
            after = msgspec.json.decode(reply.body).get("result")
            masked = _masked_foreign(endpoint, record, redaction)
            shown = msgspec.json.decode(_encoded(result))
            _compare_raw(changes, record.result, after, masked, shown)
        elif not record.result:
            _add_whole(changes, None, "a picture")
        return changes
    new = _encoded(result)
    if new != bytes(record.result):
        written = msgspec.json.decode(record.result)
        before, after = _without_secrets(endpoint, written), msgspec.json.decode(new)
        _compare_redacted(changes, before, after, record.removed, removed)
    return changes


def compare_answers(old: Answer, new: Answer, redaction: Redaction) -> Changes:
    """Return what differs between two answers: each field, ``from`` what ``to`` what."""
    if old.reply == new.reply:
        return {}
    changes: Changes = {}
    _add(changes, "status", old.reply.status, new.reply.status)
    if JSON not in (old.reply.content_type, new.reply.content_type):
        before, after = old.outcome.decision.facts(), new.outcome.decision.facts()
        for name in ("reason", "image"):
            _add(changes, name, before.get(name, UNSET), after.get(name, UNSET))
        _add(changes, "decided_by", old.outcome.decided_by, new.outcome.decided_by)
        return changes
    sent, would_send = _envelope(old), _envelope(new)
    results = sent.pop("result", None), would_send.pop("result", None)
    for name in {**sent, **would_send}:
        same_reason = name == "reason" and (
            without_ids(sent.get(name)) == without_ids(would_send.get(name))
        )
        if name != "decision_id" and not same_reason:
            _add(changes, name, sent.get(name, UNSET), would_send.get(name, UNSET))
    if results[0] != results[1]:
        shown = [
            msgspec.json.decode(
                _encoded(redaction.result(answer.outcome.endpoint, answer.outcome.decision)[0])
            )
            for answer in (old, new)
        ]
        _compare_raw(changes, *results, *shown)
    return changes


def _envelope(answer: Answer) -> dict[str, Any]:
    reply = answer.reply
    if reply.content_type != JSON:
        reason = answer.outcome.decision.reason
        known = {"action": reply.action, "decided_by": answer.outcome.decided_by}
        return {**known, "image": "a picture", **({"reason": reason} if reason else {})}
    envelope: dict[str, Any] = msgspec.json.decode(reply.body)
    envelope.pop("status", None)
    return envelope


def _encoded(result: object) -> bytes:
    return bytes(result) if isinstance(result, msgspec.Raw) else msgspec.json.encode(result)


def _masked_foreign(endpoint: str, record: RecordedReply, redaction: Redaction) -> Any:
    """Return the result of another server without its secrets; nothing where it is unknown."""
    body = {"status": "success", "action": record.action, "result": record.result}
    decision = read_envelope(endpoint, body).decision
    if decision is None:
        return None
    return msgspec.json.decode(_encoded(redaction.result(endpoint, decision)[0]))


def _without_secrets(endpoint: str, written: Any) -> Any:
    """Return a recorded result with ``***`` for secrets, which no server of ours records."""
    if isinstance(written, list):
        return [_without_secrets(endpoint, item) for item in written]
    if not isinstance(written, dict):
        return written
    secrets = _secret_names(endpoint)
    return {
        name: REMOVED if name in secrets else _without_secrets(endpoint, value)
        for name, value in written.items()
    }


@cache
def _secret_names(endpoint: str) -> frozenset[str]:
    models = [m for d in ENDPOINTS[endpoint].decisions for m in (d, *d.nested)]
    return frozenset(name for model in models for name in model.secrets)


def _add(changes: Changes, name: str, before: Any, after: Any) -> None:
    if before == after and type(before) is type(after):
        return
    change = changes[name] = {}
    if before is not UNSET:
        change["from"] = before
    if after is not UNSET:
        change["to"] = after


def _compare_redacted(
    changes: Changes,
    before: Any,
    after: Any,
    unrecorded: Collection[str],
    removed: Collection[str],
) -> None:
    """Add the fields that differ between two results without secrets.

    A field with ``***`` or a hash equals any value. ``unrecorded`` and ``removed`` are the names
    of fields that a side may have without showing them.
    """
    if isinstance(before or {}, dict) and isinstance(after or {}, dict):
        before, after = before or {}, after or {}
        for name in {**before, **after}:
            old, new = before.get(name, UNSET), after.get(name, UNSET)
            if (old is UNSET and name in unrecorded) or (new is UNSET and name in removed):
                continue
            if UNSET in (old, new) or not _is_equal(old, new, unrecorded, removed):
                _add(changes, name, old, new)
    elif not _is_equal(before, after, unrecorded, removed):
        _add_whole(changes, before, after)


def _is_equal(
    before: Any, after: Any, unrecorded: Collection[str], removed: Collection[str]
) -> bool:
    """Return whether two redacted values may be those of equal ones, at any depth."""
    if isinstance(before, dict) and isinstance(after, dict):
        return all(
            _is_equal(before[name], after[name], unrecorded, removed)
            if name in before and name in after
            else name in (removed if name in before else unrecorded)
            for name in {**before, **after}
        )
    if isinstance(before, list) and isinstance(after, list):
        pairs = zip(before, after, strict=False)
        same = (_is_equal(old, new, unrecorded, removed) for old, new in pairs)
        return len(before) == len(after) and all(same)
    if _is_masked(before) or _is_masked(after):
        return True
    return bool(before == after) and type(before) is type(after)


def _compare_raw(changes: Changes, old: Any, new: Any, old_shown: Any, new_shown: Any) -> None:
    """Add the fields that differ between two whole results; show them without secrets."""
    old, new = old or {}, new or {}
    if not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            _add_whole(changes, old, new)
        return
    for name in {**old, **new}:
        before, after = old.get(name, UNSET), new.get(name, UNSET)
        if before == after and type(before) is type(after):
            continue
        change = changes[name] = {}
        for side, value, shown in (("from", before, old_shown), ("to", after, new_shown)):
            if value is not UNSET:
                change[side] = shown.get(name, REMOVED) if isinstance(shown, dict) else REMOVED


def _is_masked(value: Any) -> bool:
    return isinstance(value, str) and (value == REMOVED or value.startswith("hash:"))


def _add_whole(changes: Changes, before: Any, after: Any) -> None:
    """Add the change of a result that is a list, by its length."""
    changes["result"] = {"from": _summary(before), "to": _summary(after)}


def _summary(result: Any) -> str:
    if isinstance(result, list):
        return f"{len(result)} entries"
    return "a result" if result else "nothing"
