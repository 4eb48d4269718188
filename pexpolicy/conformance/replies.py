"""Reading what another policy server replies: a reply that breaks the contract does not count.

For plugins that ask other policy servers. A reply is judged as ``pexpolicy probe`` judges it, and
its decision is made by the classes that the server itself answers with.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus

import orjson

from pexpolicy.conformance.check_reply import judge
from pexpolicy.conformance.disposition import Disposition, Reading, read_envelope
from pexpolicy.conformance.findings import Comparable, Level, SentRequest, Topic
from pexpolicy.conformance.http_client import LIMIT, Reply, Wire, basic
from pexpolicy.conformance.repeatability import difference
from pexpolicy.endpoints.base import JPEG, JSON
from pexpolicy.endpoints.participant_avatar import Avatar
from pexpolicy.models.decision import Continue, Decision
from pexpolicy.models.extras import NO_EXTRAS, Extras
from pexpolicy.models.request import Request

__all__ = [
    "Disposition",
    "InvalidReplyError",
    "Reading",
    "Reply",
    "UpstreamDecision",
    "Wire",
    "basic",
    "difference",
    "read",
    "read_envelope",
]

MAX_JSON = 128 * 1024
"""Bytes of a decision; four times the longest phone book that Infinity asks for. To read a megabyte
of small things takes a quarter of a second, in which nobody else gets far.
"""
ENVELOPE = frozenset((Topic.ACTION, Topic.ENVELOPE, Topic.REJECT, Topic.REDIRECT))
"""What may be wrong with an envelope that Infinity reads all the same."""
JPEG_BEGINS = b"\xff\xd8\xff"
ABSTAINED: Comparable = ("continue",)
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class InvalidReplyError(Exception):
    """A reply that does not count, and why; ``reply`` is what came."""

    def __init__(self, text: str, reply: Reply) -> None:
        super().__init__(text)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class UpstreamDecision:
    """What another server decided, or ``None`` where it left the decision to others.

    ``comparable`` is equal for two replies that Infinity would take for the same.
    """

    decision: Decision | None
    comparable: Comparable
    decision_id: str = ""
    """The id that the other server gave the call, where it is a pexpolicy too."""
    repairs: tuple[str, ...] = ()
    """What was written wrongly and put right, as warnings; the decision carries them too."""


def read(
    name: str, request: Request, reply: Reply, *, by: str = "", extras: Extras = NO_EXTRAS
) -> UpstreamDecision:
    """The decision in a reply to a request of the endpoint ``name``; ``by`` says who replied,
    ``extras`` what the operator admits beyond the contract.

    A 404 leaves the decision to others, and so does a ``status`` that is not ``success``, unless
    ``reject`` is the action next to it: that refuses the call, whatever the result. Booleans that
    were written as text are repaired. Raises ``InvalidReplyError`` for no reply, for one with
    another status or a coding, and for one that Infinity would drop.
    """
    if name == "participant_avatar" and _plain_success(reply) and reply.media_type != JSON:
        return _picture(reply, by)
    if len(reply.body) > MAX_JSON:
        raise InvalidReplyError(f"the body is longer than {MAX_JSON} bytes, and no picture", reply)
    judged = judge(SentRequest(name, request.params, extras=extras), reply, LIMIT)
    reading = judged.reading
    for finding in judged.findings:
        if finding.level is Level.VIOLATION and not _is_read(finding.topic, reading):
            raise InvalidReplyError(finding.text, reply)
    if reading is None or reading.disposition is Disposition.ABSTAIN or judged.decision is None:
        return UpstreamDecision(None, ABSTAINED)
    if reading.text:
        raise InvalidReplyError(reading.text, reply)
    decision_id = _told_id(reply)
    reason = _reason(by, decision_id)
    decision: Decision = Continue(reason=reason)
    if reading.decision is not None:
        made = reading.decision
        decision = made.with_warnings() if reason is None else made.with_reason(reason)
    return UpstreamDecision(
        decision.with_warnings(*reading.repairs), judged.decision, decision_id, reading.repairs
    )


def _is_read(topic: Topic, reading: Reading | None) -> bool:
    """True for a fault of the envelope that leaves no doubt about what Infinity makes of it."""
    if reading is None or reading.disposition is Disposition.DROPPED:
        return False
    rejected = reading.disposition is Disposition.REJECT
    return topic in ENVELOPE or (rejected and topic is Topic.RESULT)


def _plain_success(reply: Reply) -> bool:
    coding = reply.headers.get("Content-Encoding", "identity").lower()
    return not reply.failure and reply.status == HTTPStatus.OK and coding == "identity"


def _picture(reply: Reply, by: str) -> UpstreamDecision:
    """The picture as it came; its endpoint looks at it closely, outside the event loop."""
    if reply.media_type != JPEG:
        text = f"the content type is {reply.media_type[:60]!r}, not {JPEG}"
        raise InvalidReplyError(text, reply)
    if not reply.body.startswith(JPEG_BEGINS):
        raise InvalidReplyError("the body is no JPEG, though its content type says so", reply)
    digest = hashlib.sha256(reply.body).hexdigest()
    return UpstreamDecision(Avatar(reply.body, reason=_reason(by, "")), ("picture", digest))


def _told_id(reply: Reply) -> str:
    told = orjson.loads(reply.body).get("decision_id")
    return told if isinstance(told, str) and _ID.fullmatch(told) else ""


def _reason(by: str, decision_id: str) -> str | None:
    """Who answered. What the other server says of its reasons stays there: it may hold a PIN."""
    if not by:
        return None
    return f"answered by {by}" + (f", there {decision_id}" if decision_id else "")
