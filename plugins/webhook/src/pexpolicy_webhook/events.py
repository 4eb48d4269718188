"""CloudEvents: decisions as JSON, and the requests that carry them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from pexpolicy import Outcome

TYPE = "pexpolicy.decision"
STRUCTURED = "application/cloudevents+json; charset=utf-8"
BATCH = "application/cloudevents-batch+json; charset=utf-8"
PREFIX = "whsec_"
"""Before a secret in base64, as in Standard Webhooks."""


def event_of(outcome: Outcome, source: str) -> bytes:
    """Return the event of a decision as one line of JSON. Its ``data`` is the audit line."""
    line: dict[str, Any] = orjson.loads(outcome.audit_line) if outcome.audit_line else {}
    event = {
        "specversion": "1.0",
        "id": outcome.decision_id,
        "source": source,
        "type": TYPE,
        "subject": outcome.endpoint,
        "time": line.get("timestamp") or datetime.now(UTC),
        "datacontenttype": "application/json",
        "data": orjson.Fragment(outcome.audit_line or b"null"),
    }
    return orjson.dumps(event)


def body_of(events: Sequence[bytes], *, batch: bool) -> bytes:
    """Return the body of a request: one event, or a JSON array."""
    return b"[" + b",".join(events) + b"]" if batch else events[0]


def signing_key(secret: str) -> bytes:
    """Return the key of a secret: decoded base64 after ``whsec_``, otherwise the text itself.

    Raises ``ValueError`` for one that is too short or not base64.
    """
    key = secret.encode()
    if secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            msg = f"what follows {PREFIX} is not base64"
            raise ValueError(msg) from None
    if len(key) < 16:  # noqa: PLR2004 - 128 bits
        msg = "the secret is shorter than 16 bytes: generate one, such as with openssl rand -hex 32"
        raise ValueError(msg)
    return key


def signed(key: bytes | None, message_id: str, at: int, body: bytes) -> dict[str, str]:
    """Return the headers of Standard Webhooks: id, time in seconds, and a signature with a key.

    The signature is HMAC-SHA256 of ``id.time.body``.
    """
    headers = {"webhook-id": message_id, "webhook-timestamp": str(at)}
    if key is not None:
        content = f"{message_id}.{at}.".encode() + body
        digest = hmac.new(key, content, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers
