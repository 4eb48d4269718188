"""Findings about the replies of a policy server, with their level and topic."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pexpolicy.conformance.disposition import Reading
from pexpolicy.conformance.flow_steps import DecodingMarker
from pexpolicy.models.extras import NO_EXTRAS, Extras


class Level(enum.StrEnum):
    """The severity of a finding, the most severe first."""

    CONTRACT = "contract"
    """Breaks a rule that Pexip documents: Infinity drops the reply, or misreads it."""
    OPERATION = "operation"
    """The server failed, refused the request or was not reachable: it decided nothing."""
    FALLBACK = "fallback"
    """Infinity uses its own database. That is allowed; the server may not have meant it."""
    WARNING = "warning"
    """Breaks a rule that is reported by integrators, disputed, or advice."""

    @property
    def fails(self) -> bool:
        """True if a server with such a finding does not pass."""
        return self in (Level.CONTRACT, Level.OPERATION)


class Topic(enum.StrEnum):
    """The kind of fault."""

    CONNECTION = "connection"
    """No reply, or a connection that ended before the whole reply."""
    TIME = "time"
    """The reply was late, or took more than half of the time limit."""
    STATUS = "status"
    """The HTTP status is neither 200 nor 404."""
    FRAMING = "framing"
    """The body has another length than announced, or an unrequested content coding."""
    CONTENT_TYPE = "content-type"
    """The content type is wrong for a decision."""
    JSON = "json"
    """The body is not JSON, or JSON that parsers read differently."""
    ENVELOPE = "envelope"
    """``status`` is not exactly ``success``."""
    ACTION = "action"
    """``action`` is not a value that this request knows."""
    REJECT = "reject"
    """A reject that would admit the caller, or that Infinity would not read as a reject."""
    REDIRECT = "redirect"
    """A redirect that is not exactly a new alias with a scheme."""
    RESULT = "result"
    """``result`` has the wrong shape, or a field breaks a rule."""
    BREAKOUT = "breakout"
    """The answer for a breakout room lacks its breakout fields."""
    DIAL_OUT = "dial-out"
    """The answer before dialing out is not the running service."""
    NON_DIAL = "non-dial"
    """A service for a request without a caller."""
    DIRECTORY = "directory"
    """The list of entries is too long, not sorted, or an entry lacks a key."""
    CREDENTIALS = "credentials"
    """Credentials that admit any device, or that single sign-on cannot use."""
    AVATAR = "avatar"
    """The picture is not an RGB JPEG of exactly the requested size."""
    REPEATABLE = "repeatable"
    """The same request got another decision."""
    CONSISTENT = "consistent"
    """Two descriptions of one service, or two answers to equivalent requests."""
    DECODING = "decoding"
    """Text of the request was decoded twice, or not decoded."""
    AUTHENTICATION = "authentication"
    """The server answers without credentials."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault or doubt about one reply."""

    level: Level
    topic: Topic
    text: str
    mark: str = ""
    """The confidence of the rule."""


violation = partial(Finding, Level.CONTRACT)
operation = partial(Finding, Level.OPERATION)
fallback = partial(Finding, Level.FALLBACK)
warning = partial(Finding, Level.WARNING)

Comparable = tuple[Any, ...]
"""A form of a decision that is equal for decisions with the same effect."""


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as it was sent."""

    endpoint: str
    query: Mapping[str, str]
    """The parameters, each with its first value."""
    strain: bool = False
    """True for a request that a server may refuse because of its size."""
    breakout: str = ""
    """UUID of the breakout room, if an answer of the server announced it."""
    traces: tuple[DecodingMarker, ...] = ()
    extras: Extras = NO_EXTRAS

    def get(self, name: str) -> str:
        """Return the value of a parameter, or an empty text."""
        return self.query.get(name, "")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The findings about a reply, and its decision."""

    findings: list[Finding]
    decision: Comparable | None = None
    """``None`` if there is no decision to compare."""
    service: Mapping[str, Any] = field(default_factory=dict)
    """The service that Infinity would use, if there is one."""
    reading: Reading | None = None
    """How Infinity reads the envelope, for a reply with status 200."""

    @property
    def broken(self) -> bool:
        """True for a reply that has no usable decision."""
        return any(finding.level.fails for finding in self.findings)
