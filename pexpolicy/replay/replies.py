"""Recorded replies, of our servers and of others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec

from pexpolicy.conformance.disposition import Disposition, read_envelope
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.contract import contract_of

EMPTY = (b"null", b"{}", b"[]")
"""Results that are none."""
_HTTP_OK = 200


class RecordedReply(NamedTuple):
    """What was sent, as far as the record tells."""

    action: str
    status: int
    result: Any
    """The ``result`` without its secrets; JSON as ``msgspec.Raw``, or a value."""
    removed: tuple[str, ...] = ()
    """Names of fields that were not recorded."""
    decided_by: str | None = None
    reason: str | None = None
    is_ours: bool = False
    """True where the reply has ``decided_by`` and ``reason``, so that they can be compared."""


def action_word(action: str, *, has_result: bool) -> str:
    """Return the action of a reply; one that continues with a result is told apart."""
    return "continue with result" if action == "continue" and has_result else action


def recorded_action(endpoint: str, reply: RecordedReply) -> str:
    """Return the action of a recorded reply, as ``action_word``."""
    result = reply.result
    if isinstance(result, msgspec.Raw):
        is_picture = endpoint == "participant_avatar" and reply.status == _HTTP_OK
        is_left_out = bytes(result) == b"{}" and not _fields(endpoint).isdisjoint(reply.removed)
        has_result = is_picture or is_left_out or bytes(result) not in EMPTY
        return action_word(reply.action, has_result=has_result)
    return action_word(reply.action, has_result=bool(result))


@cache
def _fields(endpoint: str) -> frozenset[str]:
    """Return the names of the fields that a result may have."""
    return frozenset().union(*(contract_of(kind).names for kind in ENDPOINTS[endpoint].decisions))


def foreign_reply(endpoint: str, status: int, body: Any) -> RecordedReply:
    """Return the reply of any policy server, as Infinity reads it."""
    action, result = "continue", None
    ours: Mapping[str, Any] = {}
    if isinstance(body, Mapping) and status == _HTTP_OK:
        reading = read_envelope(endpoint, body)
        if reading.disposition in (Disposition.REJECT, Disposition.REDIRECT):
            action = str(reading.disposition)
        if reading.disposition not in (Disposition.DROPPED, Disposition.REJECT):
            result = body.get("result")
        ours = body if "decided_by" in body else {}
    by, reason = ours.get("decided_by"), ours.get("reason")
    return RecordedReply(action, status, result, (), by, reason, is_ours="decided_by" in ours)
