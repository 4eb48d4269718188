"""The decision in a reply of another policy server; a reply that breaks the contract has none.

For plugins that ask other policy servers. A reply is checked as by ``pexpolicy conformance``, and
its decision is made by the classes that the server itself answers with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

import orjson

from pexpolicy.config.outgoing import basic
from pexpolicy.conformance.check_reply import CODINGS, MAX_JSON, NotJSONError, judge, strict_json
from pexpolicy.conformance.disposition import Disposition, Reading, read_envelope
from pexpolicy.conformance.findings import SentRequest, Topic, difference
from pexpolicy.conformance.http_client import BARE, LIMIT, Reply, Wire, client_session, fetch
from pexpolicy.endpoints.base import JPEG, JSON
from pexpolicy.endpoints.participant_avatar import Avatar
from pexpolicy.endpoints.participant_properties import ParticipantProperties
from pexpolicy.models.contract import NO_EXTRAS, Extras
from pexpolicy.models.decision import Continue, Decision
from pexpolicy.models.request import Request
from pexpolicy.models.rules import Confidence

__all__ = [
    "BARE",
    "MAX_JSON",
    "Disposition",
    "InvalidReplyError",
    "NotJSONError",
    "Reading",
    "Reply",
    "UpstreamDecision",
    "Wire",
    "basic",
    "client_session",
    "difference",
    "fetch",
    "read",
    "read_envelope",
    "strict_json",
]

FATAL = (Topic.CONTENT_TYPE, Topic.TIME, Topic.BREAKOUT, Topic.CREDENTIALS)
"""Topics of violations for which a reply that can be read is not relayed."""
JPEG_MAGIC = b"\xff\xd8\xff"
NULL_NAME = b'"remote_display_name":null'
NAME_KEPT = (
    "remote_display_name: null is left out: it is allowed only where the caller has no name "
    f"[{Confidence.TRANSCRIBED}]"
)
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class InvalidReplyError(Exception):
    """Raised for a reply without a usable decision; ``reply`` is that reply."""

    def __init__(self, text: str, reply: Reply) -> None:
        super().__init__(text)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class UpstreamDecision:
    """The decision of another server, or ``None`` if it abstains."""

    decision: Decision | None
    decision_id: str = ""
    """The id of the call at the other server, if that is a pexpolicy."""
    repairs: tuple[str, ...] = ()
    """Warnings about repairs; the decision has them as well."""


def read(
    name: str, request: Request, reply: Reply, *, by: str = "", extras: Extras = NO_EXTRAS
) -> UpstreamDecision:
    """Return the decision in a reply to a request of the endpoint ``name``.

    ``by`` names the other server, ``extras`` is what the operator allows beyond the contract. A 404
    abstains, and so does a ``status`` that is not ``success``, unless the action is ``reject``:
    that rejects the call, whatever the result. Booleans and numbers that were written as text are
    repaired, null is left out, and a phone book that is not sorted or too long has warnings.
    Raises ``InvalidReplyError`` for no reply, for another HTTP status or a content coding, for a
    reject or redirect with a status other than 200, and for a reply that Infinity would drop.
    """
    is_plain = not reply.failure and reply.status == HTTPStatus.OK and not reply.codings & CODINGS
    if name == "participant_avatar" and is_plain and reply.media_type != JSON:
        return _picture(reply, by)
    if len(reply.body) > MAX_JSON:
        raise InvalidReplyError(
            f"the body is longer than {MAX_JSON} bytes, and not a picture", reply
        )
    # Of a participant only the name of the caller counts, see below.
    query = {} if name == "participant_properties" else request.params
    judged = judge(SentRequest(name, query, extras=extras), reply, LIMIT)
    reading = judged.reading
    for finding in judged.findings:
        is_unsettled = finding.topic is Topic.STATUS and finding.mark == Confidence.DISPUTED
        is_fatal = finding.level.fails and (reading is None or finding.topic in FATAL)
        if is_unsettled or is_fatal:
            raise InvalidReplyError(finding.text, reply)
    if reading is None or reading.disposition is Disposition.ABSTAIN:
        return UpstreamDecision(None)
    if reading.text:
        raise InvalidReplyError(reading.text, reply)
    listed = [
        f"entries: {finding.text} [{finding.mark}]"
        for finding in judged.findings
        if finding.topic is Topic.DIRECTORY and finding.level.fails
    ]
    decision_id = _decision_id(reply)
    reason = _reason(by, decision_id)
    decision: Decision = Continue(reason=reason)
    if reading.decision is not None:
        made = reading.decision
        is_named = request.params.get("remote_display_name") and NULL_NAME in made.result
        if is_named and isinstance(made, ParticipantProperties):
            # Infinity drops properties that take the name of the caller away.
            fields = made.set_fields()
            del fields["remote_display_name"]
            made = ParticipantProperties.from_result(fields)
            listed.append(NAME_KEPT)
        decision = made if reason is None else made.with_reason(reason)
    repairs = (*reading.repairs, *listed)
    return UpstreamDecision(decision.with_warnings(*repairs), decision_id, repairs)


def _picture(reply: Reply, by: str) -> UpstreamDecision:
    """Return the picture unchanged; its endpoint checks it outside the event loop."""
    if reply.media_type != JPEG:
        raise InvalidReplyError(f"the content type is {reply.media_type[:60]!r}, not {JPEG}", reply)
    if not reply.body.startswith(JPEG_MAGIC):
        raise InvalidReplyError("the body is not a JPEG, although its content type is", reply)
    return UpstreamDecision(Avatar(reply.body, reason=_reason(by, "")))


def _decision_id(reply: Reply) -> str:
    decision_id = orjson.loads(reply.body).get("decision_id")
    valid = isinstance(decision_id, str) and _ID.fullmatch(decision_id)
    return decision_id if valid else ""


def _reason(by: str, decision_id: str) -> str | None:
    """Return which server answered, without its own reason, which may contain a PIN."""
    if not by:
        return None
    return f"answered by {by}" + (f", there {decision_id}" if decision_id else "")
