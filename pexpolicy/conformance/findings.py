"""What the probe finds: a breach of the contract, or something that the sources do not agree on."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pexpolicy.conformance.disposition import Reading
from pexpolicy.conformance.flow_steps import DecodingMarker
from pexpolicy.models.extras import NO_EXTRAS, Extras


class Level(enum.StrEnum):
    """How much a finding weighs."""

    VIOLATION = "violation"
    """Pexip documents the rule: Infinity would drop the reply, or read it as something else."""
    WARNING = "warning"
    """Said by integrators only, contested, or advised against: Infinity may take the reply."""


class Topic(enum.StrEnum):
    """What a finding is about; one word for each kind of fault."""

    CONNECTION = "connection"
    """No reply came, or the connection ended within it."""
    TIME = "time"
    """The reply was late, or took most of the time there is."""
    STATUS = "status"
    """The HTTP status is none that carries a decision or hands the call back."""
    FRAMING = "framing"
    """The body is not as long as the reply says, or is coded in a way nobody asked for."""
    CONTENT_TYPE = "content-type"
    """The content type is not the one of a decision."""
    JSON = "json"
    """The body is not JSON that every reader takes for the same."""
    ENVELOPE = "envelope"
    """``status`` is not exactly ``success``, or the result of a failed answer is lost."""
    ACTION = "action"
    """``action`` is no word of this request."""
    REJECT = "reject"
    """A reject that would admit the caller, or that Infinity would not read as one."""
    REDIRECT = "redirect"
    """A redirect that is not exactly a new alias with its scheme."""
    RESULT = "result"
    """``result`` has another shape than this request knows, or a field breaks a rule."""
    BREAKOUT = "breakout"
    """A breakout room is not answered with its own breakout fields."""
    DIAL_OUT = "dial-out"
    """The answer before dialing out is another service than the running one."""
    NON_DIAL = "non-dial"
    """A service was made for a request that no caller stands behind."""
    DIRECTORY = "directory"
    """The phone book is too long, not sorted, or an entry lacks a key."""
    CREDENTIALS = "credentials"
    """Credentials that open the registration to anybody, or that single sign-on cannot use."""
    AVATAR = "avatar"
    """The picture is no JPEG in RGB of exactly the size that was asked for."""
    REPEATABLE = "repeatable"
    """The same request did not get the same decision."""
    CONSISTENT = "consistent"
    """One service was described in two ways, or two ways of asking one thing got two answers."""
    DECODING = "decoding"
    """Text of the request was decoded twice, or not at all."""
    AUTHENTICATION = "authentication"
    """The server answers callers without credentials."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or doubtful, with one reply."""

    level: Level
    topic: Topic
    text: str
    mark: str = ""
    """How sure the rule is, and who says so."""


def violation(topic: Topic, text: str, mark: str = "") -> Finding:
    """A finding that fails the server."""
    return Finding(Level.VIOLATION, topic, text, mark)


def warning(topic: Topic, text: str, mark: str = "") -> Finding:
    """A finding that does not."""
    return Finding(Level.WARNING, topic, text, mark)


Comparable = tuple[Any, ...]
"""A decision in a form in which two of them are equal when Infinity would do the same."""


@dataclass(frozen=True, slots=True)
class SentRequest:
    """What was asked: the request as the node knows it."""

    endpoint: str
    query: Mapping[str, str]
    """The parameters, each with its first value."""
    strain: bool = False
    """True for a request that a server may refuse to read."""
    breakout: str = ""
    """UUID of the breakout room, where an answer of the server announced it."""
    traces: tuple[DecodingMarker, ...] = ()
    extras: Extras = NO_EXTRAS

    def get(self, name: str) -> str:
        """The value of a parameter, or nothing."""
        return self.query.get(name, "")


@dataclass(frozen=True, slots=True)
class CheckResult:
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
