"""What a reply is judged by, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy.probe.disposition import Reading
from pexpolicy.probe.findings import Finding, Level
from pexpolicy.probe.steps import Trace

Comparable = tuple[Any, ...]
"""A decision in a form in which two of them are equal when Infinity would do the same."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked: the request as the node knows it."""

    endpoint: str
    query: Mapping[str, str]
    """The parameters, each with its first value."""
    strain: bool = False
    """True for a request that a server may refuse to read."""
    breakout: str = ""
    """UUID of the breakout room, where an answer of the server announced it."""
    traces: tuple[Trace, ...] = ()
    extras: Extras = NO_EXTRAS

    def get(self, name: str) -> str:
        """The value of a parameter, or nothing."""
        return self.query.get(name, "")


@dataclass(frozen=True, slots=True)
class Judged:
    """The findings about a reply, and the decision in it."""

    findings: list[Finding]
    decision: Comparable | None = None
    """None where there is no decision that could be compared with another."""
    service: Mapping[str, Any] = field(default_factory=dict)
    """The service that Infinity would use, where the reply holds one."""
    reading: Reading | None = None
    """What Infinity makes of the envelope, where the reply is a 200 that holds one."""

    @property
    def broken(self) -> bool:
        """True for a reply that breaks a rule by itself."""
        return any(finding.level is Level.VIOLATION for finding in self.findings)
