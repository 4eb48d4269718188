"""What is refused before the policy is asked: each counts, and is on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pexpolicy.access.refusal_aggregator import RefusalAggregator, Write

UNAUTHORISED = "unauthorised"
NOT_ALLOWED = "network not allowed"
BUSY = "too many attempts"
CROWDED = "too many connections"
EVICTED = "connection evicted"
MEMORY = "memory limit"
TIMED_OUT = "request timeout"
WRITE_TIMEOUT = "write timeout"
HANDSHAKE_FAILED = "tls handshake failed"
MALFORMED = "malformed"
TOO_LARGE = "header too large"
BODY = "request body"
FAULT = "internal fault"
WRONG_TOKEN = "wrong token"  # noqa: S105 - a reason
FOREIGN_HOST = "foreign host"
REASONS = (
    *(UNAUTHORISED, NOT_ALLOWED, BUSY, CROWDED, EVICTED, MEMORY),
    *(TIMED_OUT, WRITE_TIMEOUT, HANDSHAKE_FAILED, MALFORMED, TOO_LARGE, BODY, FAULT),
    *(WRONG_TOKEN, FOREIGN_HOST),
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


class Count(Protocol):
    """Counts refusals."""

    def __call__(self, reason: str, peer: str | None) -> None:
        """Count one more."""


class RefusalLog:
    """Counts what is refused, each at once, and has the lines about it written, folded where there
    are many. ``counts`` has how many there were by reason.
    """

    def __init__(
        self,
        write: Write,
        count: Count = lambda *_: None,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._count = count
        self._bursts = RefusalAggregator(write, has_room)

    def note(self, reason: str, status: int, peer: str | None, **facts: object) -> None:
        """Note one refusal."""
        self.counts[reason] += 1
        self._count(reason, peer)
        self._bursts.note(reason, status, peer, facts)

    def end(self) -> None:
        """Write the lines that wait for others."""
        self._bursts.end()
