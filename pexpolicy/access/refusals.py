"""What is refused before the policy is asked: each leaves an audit line and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pexpolicy.audit import Audit

UNAUTHORISED = "unauthorised"
NOT_ALLOWED = "network not allowed"
BUSY = "too many attempts"
CROWDED = "too many connections"
DISPLACED = "made room"
HALF_SENT = "half sent"
NOT_READING = "reply not read"
NO_TLS = "no tls"
MALFORMED = "malformed"
TOO_LONG = "too long"
CLOSED = 0
"""Status of what was closed without a reply."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused, and the HTTP status that says so."""

    reason: str
    status: int
    peer: str


class Refusals:
    """Writes the audit lines of what is refused; ``counts`` has how many there were by reason.

    ``told`` hears the reason and the peer of each.
    """

    def __init__(
        self,
        audit: Audit,
        config_hash: Callable[[], str],
        told: Callable[[str, str | None], None] = lambda *_: None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._told = told
        self._audit = audit
        self._config_hash = config_hash

    def note(self, reason: str, status: int, peer: str | None, **facts: object) -> None:
        """Count one refusal and write its line."""
        self.counts[reason] += 1
        self._told(reason, peer)
        self._audit.refused(reason, status, peer, self._config_hash(), **facts)
