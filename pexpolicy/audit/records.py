"""Audit records, and their serialization as JSON. ``audit_log.py`` fills them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pexpolicy.models.outcome import Outcome, Step
from pexpolicy.text import escape_controls, readable

encode = msgspec.json.Encoder().encode
_DELETE = 0x7F


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
    """Time of writing, UTC."""
    event: str
    """``decision``."""
    decision_id: str
    """UUIDv7 of the call; in the reply too, and so in Infinity's support log."""
    endpoint: str
    """One of the six request types."""
    peer: str | None
    """Address of the client: a node, or the proxy in front of the server."""
    request: dict[str, Any]
    """The parameters as sent, without empty ones; repeated ones are a list. ``alias`` is the one in
    the path.
    """
    steps: Sequence[Step | AdjustedStepRecord]
    """The plugins that were asked, in order."""
    decided_by: str
    """The plugin that decided, or ``default``. An adjuster takes its place only if it changes
    ``action``.
    """
    reason: str | None
    """The reason that the plugin gave."""
    action: str
    """What the reply asks of Infinity: ``continue``, ``reject``, ``redirect``."""
    status: int
    """HTTP status of the reply. 404 for a location or an avatar means that Infinity decides."""
    sent: object
    """The ``result`` of the reply without its secrets, or null."""
    ms: float
    """Milliseconds in the server."""
    policy_hash: str
    """The configuration that decided; ``pexpolicy check`` prints it."""
    credential: int = 0
    """Which of several ``[[auth.credentials]]`` the client sent, from 1; one in ``[auth]`` itself
    is the first.
    """
    environment: str | None = None
    """The platform that asked, of ``[environments]``."""
    warnings: tuple[str, ...] = ()
    """Fields of the answer that some versions of Infinity do not accept, each with its level of
    evidence.
    """
    annotations: dict[str, dict[str, Any]] = {}
    """What plugins added, by plugin."""
    removed: list[str] = []
    """Names of values that were left out or replaced by ``***``."""
    redaction_error: str | None = None
    """Why removing secrets failed: then no value of the call is written."""


def line_of(event: str, /, **facts: object) -> dict[str, object]:
    """Return the line of another event, as of now."""
    return {"timestamp": datetime.now(UTC), "event": event, **facts}


def as_json(line: object) -> bytes:
    """Return a line as JSON; replace values that JSON cannot hold rather than lose the line."""
    try:
        encoded = encode(line)
    except Exception:  # noqa: BLE001 - without its line a decision may not be sent
        encoded = encode(readable(line))
    if encoded.isascii() and _DELETE not in encoded:
        return encoded
    return escape_controls(encoded.decode("utf-8", "replace")).encode()


def with_audit_line(outcome: Outcome, line: DecisionRecord) -> Outcome:
    """Return an outcome with its audit line, for observers."""
    return msgspec.structs.replace(outcome, audit_line=as_json(line))
