"""What is refused before the policy is asked: each leaves an audit line and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

UNAUTHORISED = "unauthorised"
NOT_ALLOWED = "network not allowed"
BUSY = "too many attempts"
CROWDED = "too many connections"
DISPLACED = "made room"
MEMORY = "memory limit"
HALF_SENT = "half sent"
NOT_READING = "reply not read"
NO_TLS = "no tls"
MALFORMED = "malformed"
TOO_LARGE = "header too large"
BODY = "request body"
FAULT = "internal fault"
REASONS = (
    *(UNAUTHORISED, NOT_ALLOWED, BUSY, CROWDED, DISPLACED, MEMORY),
    *(HALF_SENT, NOT_READING, NO_TLS, MALFORMED, TOO_LARGE, BODY, FAULT),
)
"""Every reason that there is here."""
CLOSED = 0
"""Status of what was closed without a reply."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused, and the HTTP status that says so; ``detail`` is for the audit."""

    reason: str
    status: int
    peer: str
    detail: str = ""


class Write(Protocol):
    """Writes the audit line of one refusal, under the configuration that is in force."""

    def __call__(self, reason: str, status: int, peer: str | None, **facts: object) -> None:
        """Write it."""


class Refusals:
    """Writes the audit lines of what is refused; ``counts`` has how many there were by reason."""

    def __init__(self, write: Write) -> None:
        self.counts: Counter[str] = Counter()
        self._write = write

    def note(self, reason: str, status: int, peer: str | None, **facts: object) -> None:
        """Count one refusal and write its line."""
        self.counts[reason] += times_of(facts)
        self._write(reason, status, peer, **facts)


def times_of(facts: Mapping[str, object]) -> int:
    """How many refusals a line speaks of."""
    times = facts.get("times", 1)
    return times if isinstance(times, int) else 1
