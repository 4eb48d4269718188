"""Audit records, and their serialization as JSON. ``audit_log.py`` fills them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from pexpolicy.models.outcome import Outcome, Step

encode = msgspec.json.Encoder().encode
_CONTROLS = re.compile("[\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""C1 controls, and marks that change the direction or the end of a line of text."""


class AdjustedStepRecord(msgspec.Struct, frozen=True, gc=False):
    """A step that changed the decision, in a line: each changed field, ``from`` what ``to`` what.

    A value that is missing was not set.
    """

    plugin: str
    outcome: str
    ms: float
    hook: str
    changes: msgspec.Raw


class DecisionRecord(msgspec.Struct, gc=False, omit_defaults=True):
    """The line of a call that the policy answered, in ``ms`` milliseconds."""

    timestamp: datetime
    event: str
    decision_id: str
    endpoint: str
    peer: str | None
    request: dict[str, Any]
    steps: Sequence[Step | AdjustedStepRecord]
    decided_by: str
    reason: str | None
    action: str
    status: int
    sent: object
    ms: float
    config_hash: str
    warnings: tuple[str, ...] = ()
    annotations: dict[str, dict[str, Any]] = {}
    removed: list[str] = []
    redaction_error: str | None = None


def as_json(_: Any, __: str, line: object) -> bytes:
    """Return a line as JSON; replace text that is not valid Unicode rather than lose the line."""
    try:
        encoded = encode(line)
    except UnicodeEncodeError:
        encoded = encode(_valid(line))
    return encoded if encoded.isascii() else escape_controls(encoded)


def with_audit_line(outcome: Outcome, line: DecisionRecord) -> Outcome:
    """Return an outcome with its audit line, for observers."""
    return msgspec.structs.replace(outcome, audit_line=as_json(None, "", line))


def escape_controls(encoded: bytes) -> bytes:
    """Return JSON with control characters escaped, which would command a terminal."""
    text = encoded.decode("utf-8", "replace")
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, msgspec.Struct):
        return _valid(msgspec.structs.asdict(value))
    if isinstance(value, Mapping):
        return {_valid(key): _valid(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_valid(item) for item in value]
    return value
