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
from pexpolicy.models.contract import contract_of
from pexpolicy.models.difference import Changes, add_change, changed_fields, is_same
from pexpolicy.policy import Answer
from pexpolicy.replay.replies import EMPTY, RecordedReply, action_word

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
    add_change(changes, "action", record.action, reply.action)
    if record.is_ours:
        add_change(changes, "status", record.status, reply.status)
        add_change(changes, "decided_by", record.decided_by, outcome.decided_by)
        if without_ids(record.reason) != without_ids(decision.reason):
            add_change(changes, "reason", record.reason or UNSET, decision.reason or UNSET)
    result, removed = redaction.result(endpoint, decision)
    new = _encoded(result)
    if isinstance(record.result, msgspec.Raw):
        if new != bytes(record.result):
            before = _without_secrets(endpoint, msgspec.json.decode(record.result))
            _add_redacted(changes, before, msgspec.json.decode(new), record.removed, removed)
    elif reply.content_type == JSON:
        after = msgspec.json.decode(reply.body).get("result")
        masked = _masked_foreign(endpoint, record, redaction)
        _add_masked(changes, record.result, after, masked, msgspec.json.decode(new))
    elif not record.result:
        _add_whole(changes, None, "a picture")
    return changes


def compare_answers(old: Answer, new: Answer, redaction: Redaction) -> Changes:
    """Return what differs between two answers: each field, ``from`` what ``to`` what."""
    if old.reply == new.reply:
        return {}
    changes: Changes = {}
    add_change(changes, "status", old.reply.status, new.reply.status)
    sent, would_send = _envelope(old), _envelope(new)
    results = sent.pop("result", None), would_send.pop("result", None)
    for name, pair in changed_fields(sent, would_send).items():
        reasons = sent.get(name), would_send.get(name)
        if name != "reason" or without_ids(reasons[0]) != without_ids(reasons[1]):
            add_change(changes, name, *pair)
    if results[0] != results[1]:
        shown = [
            msgspec.json.decode(
                _encoded(redaction.result(answer.outcome.endpoint, answer.outcome.decision)[0])
            )
            for answer in (old, new)
        ]
        _add_masked(changes, *results, *shown)
    return changes


def _envelope(answer: Answer) -> dict[str, Any]:
    """Return what is sent but for the decision ID; of a picture its size and checksum."""
    outcome, reply = answer.outcome, answer.reply
    if reply.content_type != JSON:
        facts = outcome.decision.facts()
        known: dict[str, Any] = {n: facts[n] for n in ("reason", "image") if n in facts}
        return {"action": reply.action, "decided_by": outcome.decided_by, **known}
    envelope: dict[str, Any] = msgspec.json.decode(reply.body)
    for name in ("status", "decision_id"):
        envelope.pop(name, None)
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
    decisions = map(contract_of, ENDPOINTS[endpoint].decisions)
    models = [m for d in decisions for m in (d, *d.nested)]
    return frozenset(name for model in models for name in model.secrets)


def _add_redacted(
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

    def may_be_same(name: str, old: Any, new: Any) -> bool:
        if old is UNSET or new is UNSET:
            return name in (unrecorded if old is UNSET else removed)
        if isinstance(old, dict) and isinstance(new, dict):
            return all(may_be_same(n, *pair) for n, pair in changed_fields(old, new).items())
        if isinstance(old, list) and isinstance(new, list):
            return len(old) == len(new) and all(map(may_be_same, [""] * len(old), old, new))
        return _is_masked(old) or _is_masked(new) or is_same(old, new)

    if isinstance(before or {}, dict) and isinstance(after or {}, dict):
        for name, pair in changed_fields(before or {}, after or {}).items():
            if not may_be_same(name, *pair):
                add_change(changes, name, *pair)
    elif not may_be_same("", before, after):
        _add_whole(changes, before, after)


def _is_masked(value: Any) -> bool:
    return isinstance(value, str) and (value == REMOVED or value.startswith("hash:"))


def _add_masked(changes: Changes, old: Any, new: Any, old_shown: Any, new_shown: Any) -> None:
    """Add the fields that differ between two whole results; show them without secrets."""
    old, new = old or {}, new or {}
    if not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            _add_whole(changes, old, new)
        return
    for name, pair in changed_fields(old, new).items():
        sides = zip(("from", "to"), pair, (old_shown, new_shown), strict=True)
        changes[name] = {
            side: shown.get(name, REMOVED) if isinstance(shown, dict) else REMOVED
            for side, value, shown in sides
            if value is not UNSET
        }


def _add_whole(changes: Changes, before: Any, after: Any) -> None:
    """Add the change of a result that is a list, by its length."""
    changes["result"] = {"from": _summary(before), "to": _summary(after)}


def _summary(result: Any) -> str:
    if isinstance(result, list):
        return f"{len(result)} entries"
    return "a result" if result else "nothing"
