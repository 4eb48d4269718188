"""Findings about the replies of a policy server, with their level and topic."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from pexpolicy.endpoints.participant_avatar import Avatar
from pexpolicy.models.contract import NO_EXTRAS, Extras
from pexpolicy.models.decision import Continue, Decision
from pexpolicy.models.difference import changed_fields
from pexpolicy.models.errors import ValidationIssue
from pexpolicy.models.rules import Confidence


class Level(enum.StrEnum):
    """The severity of a finding, the most severe first."""

    CONTRACT = "contract"
    """Breaks a rule that Pexip documents: Infinity drops the reply or misreads it."""
    OPERATION = "operation"
    """The server decided nothing: 5xx, 401, 403, 400, no reply, a closed connection."""
    FALLBACK = "fallback"
    """Infinity uses its own database, which is allowed: a ``status`` other than ``success`` without
    a result. A 404 says so more clearly.
    """
    WARNING = "warning"
    """Breaks a rule that is reported or disputed; Infinity may use the reply."""

    @property
    def fails(self) -> bool:
        """True if a server with such a finding does not pass."""
        return self in (Level.CONTRACT, Level.OPERATION)


class Topic(enum.StrEnum):
    """The kind of fault."""

    CONNECTION = "connection"
    """No reply."""
    TIME = "time"
    """Slower than 5 s; a warning above half of it."""
    STATUS = "status"
    """Neither 200 nor 404, or a result with another status than 200. A warning if everything is a
    404: usually a wrong base path.
    """
    FRAMING = "framing"
    """A body that does not fit ``Content-Length``, compressed unasked, or no HTTP."""
    CONTENT_TYPE = "content-type"
    """Not ``application/json``, or for an avatar not ``image/jpeg``."""
    JSON = "json"
    """No object, or read differently by parsers: a duplicate key, NaN, a byte order mark, not
    UTF-8.
    """
    ENVELOPE = "envelope"
    """``status`` is missing or not exactly ``success``: a result is lost, a ``reject`` still
    counts.
    """
    ACTION = "action"
    """An action that the request does not have, so a reject is lost; a warning next to a valid
    result.
    """
    REJECT = "reject"
    """A reject with a usable result: Infinity admits the caller."""
    REDIRECT = "redirect"
    """Not exactly ``{"new_alias": …}`` with a scheme; a warning for schemes other than ``sip``,
    ``sips``, ``h323``, ``tel``.
    """
    RESULT = "result"
    """A missing field, a wrong type or value, a broken rule between fields. Booleans and numbers as
    text, null, unknown fields and a missing ``service_tag`` are warnings; null for a PIN is not.
    """
    BREAKOUT = "breakout"
    """``breakout_uuid`` is answered without ``breakout: true``."""
    DIAL_OUT = "dial-out"
    """The answer before Infinity dials out from a service has another name."""
    NON_DIAL = "non-dial"
    """A warning: OPTIONS, SUBSCRIBE, LRQ or no alias is answered with a service."""
    DIRECTORY = "directory"
    """More entries than ``limit``, unsorted, or without ``alias``, ``description`` or
    ``username``.
    """
    CREDENTIALS = "credentials"
    """User name and password for single sign-on; a warning if both are empty."""
    AVATAR = "avatar"
    """No RGB JPEG of exactly the requested size."""
    REPEATABLE = "repeatable"
    """A repeated request got another decision."""
    CONSISTENT = "consistent"
    """One service name has two descriptions, or equivalent requests got two answers."""
    DECODING = "decoding"
    """A text comes back decoded twice, not at all, or in another encoding."""
    AUTHENTICATION = "authentication"
    """A warning: the server also answers without credentials."""


class Finding(NamedTuple):
    """A fault or doubt about one reply."""

    level: Level
    topic: Topic
    text: str
    mark: str = ""
    """The confidence of the rule."""


DOCUMENTED, TRANSCRIBED = Confidence.DOCUMENTED, Confidence.TRANSCRIBED
REPORTED, DISPUTED = Confidence.REPORTED, Confidence.DISPUTED

violation = partial(Finding, Level.CONTRACT)
operation = partial(Finding, Level.OPERATION)
fallback = partial(Finding, Level.FALLBACK)
warning = partial(Finding, Level.WARNING)


def of_issue(issue: ValidationIssue, topic: Topic) -> Finding:
    """Return the violation of a field."""
    return violation(topic, str(replace(issue, mark="")), issue.mark)


def of_warning(text: str, topic: Topic = Topic.RESULT) -> Finding:
    """Return the finding for a warning of a decision, which ends with its mark in brackets."""
    plain, bracket, mark = text.rpartition(" [")
    return warning(topic, plain, mark.rstrip("]")) if bracket else warning(topic, text)


class SentRequest(NamedTuple):
    """A request as it was sent."""

    endpoint: str
    query: Mapping[str, str]
    """The parameters, each with its first value."""
    strain: bool = False
    """True for a request that a server may refuse because of its size."""
    traces: tuple[tuple[str, str], ...] = ()
    """Texts that are in a reply only if the server decoded the request wrongly, and how."""
    extras: Extras = NO_EXTRAS

    def get(self, name: str) -> str:
        """Return the value of a parameter, or an empty text."""
        return self.query.get(name, "")


def difference(one: Decision, other: Decision) -> str:
    """Return the names of what differs between two decisions: values may be secret."""
    kinds = ["continue" if isinstance(side, Continue) else "decision" for side in (one, other)]
    if kinds[0] != kinds[1]:
        return " and then ".join(kinds)
    if isinstance(one, Avatar):
        return "another picture"
    if one.action != other.action:
        return "another action"
    return differing_fields(one.set_fields(), other.set_fields())


def differing_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the names of the fields that differ between two results."""
    names = sorted(changed_fields(before, after))
    return f"{', '.join(names)} differ{'s' if len(names) == 1 else ''}"
