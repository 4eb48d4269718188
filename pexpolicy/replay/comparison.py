"""Comparison of what two sides answered to one call: the changed fields, without secrets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from pexpolicy.audit.redaction import REMOVED, Redaction
from pexpolicy.conformance.disposition import Disposition, read_envelope
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import JSON
from pexpolicy.explain.request_forms import AuditLine
from pexpolicy.models.contract import contract_of
from pexpolicy.models.difference import Changes, add_change, changed_fields, is_same
from pexpolicy.policy import Answer

PICTURE = {"image": REMOVED}
"""The result of a side with a picture that is not known further."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HTTP_OK = 200


class Side(NamedTuple):
    """What one side answered to a call, as far as it is known."""

    action: str
    status: int
    shown: Any
    """The result without its secrets."""
    removed: Collection[str] = ()
    """Names of fields that ``shown`` may have, but does not show."""
    whole: Any = UNSET
    """The result with its secrets; unset where a record has none."""
    decided_by: str | None = None
    reason: str | None = None
    is_ours: bool = True
    """False for a reply without ``decided_by`` and ``reason``, which then are not compared."""
    ignore_local: bool | None = None

    def word(self, endpoint: str) -> str:
        """Return the action; one that continues with a result is told apart."""
        result = self.shown if self.whole is UNSET else self.whole
        is_left_out = result == {} and not _fields(endpoint)[0].isdisjoint(self.removed)
        has_result = self.action == "continue" and (bool(result) or is_left_out)
        return "continue with result" if has_result else self.action


def of_answer(answer: Answer, redaction: Redaction) -> Side:
    """Return the side of a configuration."""
    outcome, reply = answer.outcome, answer.reply
    decision = outcome.decision
    result, removed = redaction.result(outcome.endpoint, decision)
    shown, ignore_local = _plain(result), None
    if reply.content_type == JSON:
        body = msgspec.json.decode(reply.body)
        whole, ignore_local = body.get("result"), body.get("ignore_local")
    else:
        shown = whole = {"image": decision.facts()["image"]}
    sent = (reply.action, reply.status, shown, removed, whole)
    return Side(*sent, outcome.decided_by, decision.reason, ignore_local=ignore_local)


def of_record(line: AuditLine) -> Side:
    """Return the side of an audit line, whose result has lost its secrets."""
    is_picture = line.endpoint == "participant_avatar" and line.status == _HTTP_OK
    shown = PICTURE if is_picture else _without_secrets(line.endpoint, line.sent)
    by = line.decided_by, line.reason
    return Side(line.action, line.status, shown, line.removed, UNSET, *by)


def of_reply(endpoint: str, status: int, body: Any, redaction: Redaction) -> Side:
    """Return the side of any policy server, as Infinity reads its reply."""
    action, result, shown = "continue", None, None
    ours: Mapping[str, Any] = {}
    if isinstance(body, Mapping) and status == _HTTP_OK:
        reading = read_envelope(endpoint, body)
        if reading.disposition in (Disposition.REJECT, Disposition.REDIRECT):
            action = str(reading.disposition)
        if reading.disposition not in (Disposition.DROPPED, Disposition.REJECT):
            result = body.get("result")
        if reading.decision is not None:
            shown = _plain(redaction.result(endpoint, reading.decision)[0])
        ours = body if "decided_by" in body else {}
    by, reason, ignore_local = map(ours.get, ("decided_by", "reason", "ignore_local"))
    return Side(action, status, shown, (), result, by, reason, bool(ours), ignore_local)


def without_ids(reason: str | None) -> str:
    """Return a reason with ``{id}`` for each UUID, which is another one in each call."""
    return _UUID.sub("{id}", reason or "")


def compare(old: Side, new: Side) -> Changes:
    """Return what differs between two sides: each field, ``from`` what ``to`` what."""
    changes: Changes = {}
    is_known = UNSET not in (old.whole, new.whole)
    add_change(changes, "action", old.action, new.action)
    if old.is_ours and new.is_ours:
        add_change(changes, "status", old.status, new.status)
        add_change(changes, "decided_by", old.decided_by, new.decided_by)
        if without_ids(old.reason) != without_ids(new.reason):
            add_change(changes, "reason", old.reason or UNSET, new.reason or UNSET)
        if is_known:
            add_change(changes, "ignore_local", old.ignore_local, new.ignore_local)
    shown = old.shown or {}, new.shown or {}
    before, after = (old.whole or {}, new.whole or {}) if is_known else shown
    removed = () if is_known else (old.removed, new.removed)
    if not isinstance(before, dict) or not isinstance(after, dict):
        if not _may_be_same("", before, after, removed):
            changes["result"] = {"from": _summary(before), "to": _summary(after)}
        return changes
    for name, pair in changed_fields(before, after).items():
        if not _may_be_same(name, *pair, removed):
            changes[name] = {
                side: values.get(name, REMOVED)
                for side, value, values in zip(("from", "to"), pair, shown, strict=True)
                if value is not UNSET
            }
    return changes


def _may_be_same(name: str, old: Any, new: Any, removed: tuple[Collection[str], ...]) -> bool:
    """Return whether two values may be equal, at any depth.

    ``removed`` are the names of fields that each side may have without showing them; with it, a
    value with ``***`` or a hash equals any other. It is empty for values that show all.
    """
    if not removed or UNSET in (old, new):
        return (bool(removed) and name in removed[old is not UNSET]) or is_same(old, new)
    if isinstance(old, dict) and isinstance(new, dict):
        both = changed_fields(old, new)
        return all(_may_be_same(inner, *pair, removed) for inner, pair in both.items())
    if isinstance(old, list) and isinstance(new, list):
        pairs = zip(old, new, strict=False)
        return len(old) == len(new) and all(_may_be_same("", *pair, removed) for pair in pairs)
    texts = (value for value in (old, new) if isinstance(value, str))
    is_masked = any(text == REMOVED or text.startswith("hash:") for text in texts)
    return is_masked or is_same(old, new)


def _plain(result: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(result))


def _summary(result: Any) -> str:
    if isinstance(result, list):
        return f"{len(result)} entries"
    return "a result" if result else "nothing"


def _without_secrets(endpoint: str, written: Any) -> Any:
    """Return a recorded result with ``***`` for secrets, which no server of ours records."""
    if isinstance(written, list):
        return [_without_secrets(endpoint, item) for item in written]
    if not isinstance(written, dict):
        return written
    secrets = _fields(endpoint)[1]
    return {
        name: REMOVED if name in secrets else _without_secrets(endpoint, value)
        for name, value in written.items()
    }


@cache
def _fields(endpoint: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the fields that a result may have, and those of secrets in it."""
    models = [contract_of(kind) for kind in ENDPOINTS[endpoint].decisions]
    nested = [inner for model in models for inner in (model, *model.nested)]
    secrets = frozenset(name for model in nested for name in model.secrets)
    return frozenset().union(*(model.names for model in models)), secrets
