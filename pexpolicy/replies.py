"""Reading what another policy server replies: a reply that breaks the contract does not count.

For plugins that ask other policy servers. A reply is judged as ``pexpolicy probe`` judges it, and
its decision is made by the classes that the server itself answers with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

from pexpolicy.contract.refusal import DecisionError
from pexpolicy.decisions import Continue, Decision, Redirect, Reject
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import JPEG, JSON
from pexpolicy.endpoints.directory_information import Directory
from pexpolicy.endpoints.participant_avatar import Avatar
from pexpolicy.parameters import Request
from pexpolicy.probe.comparing import difference
from pexpolicy.probe.findings import Level
from pexpolicy.probe.judge import judge
from pexpolicy.probe.verdict import Asked, Comparable
from pexpolicy.probe.wire import LIMIT, Reply, Wire, basic

__all__ = ["Heard", "Reply", "UnusableReply", "Wire", "basic", "difference", "read"]

MAX_JSON = 128 * 1024
"""Bytes of a decision; four times the longest phone book that Infinity asks for. To read a megabyte
of small things takes a quarter of a second, in which nobody else gets far.
"""
JPEG_BEGINS = b"\xff\xd8\xff"
ABSTAINED: Comparable = ("continue",)
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class UnusableReply(Exception):
    """A reply that does not count, and why; ``reply`` is what came."""

    def __init__(self, text: str, reply: Reply) -> None:
        super().__init__(text)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Heard:
    """What another server decided, or ``None`` where it left the decision to others.

    ``comparable`` is equal for two replies that Infinity would take for the same.
    """

    decision: Decision | None
    comparable: Comparable
    decision_id: str = ""
    """The id that the other server gave the call, where it is a pexpolicy too."""


def read(name: str, request: Request, reply: Reply, *, by: str = "") -> Heard:
    """The decision in a reply to a request of the endpoint ``name``; ``by`` says who replied.

    A 404 and a reply whose ``status`` is not ``success`` leave the decision to others. Raises
    ``UnusableReply`` for no reply, for one with another status or a coding, and for one that
    Infinity would drop.
    """
    if name == "participant_avatar" and _plain_success(reply) and reply.media_type != JSON:
        return _picture(reply, by)
    if len(reply.body) > MAX_JSON:
        raise UnusableReply(f"the body is longer than {MAX_JSON} bytes, and no picture", reply)
    envelope = _envelope(reply)
    if envelope is not None and envelope.get("status") != "success" and not envelope.get("result"):
        return Heard(None, ABSTAINED)
    judged = judge(Asked(name, request.params), reply, LIMIT)
    for finding in judged.findings:
        if finding.level is Level.VIOLATION:
            raise UnusableReply(finding.text, reply)
    if envelope is None or judged.decision is None:
        return Heard(None, ABSTAINED)
    decision_id = _told_id(envelope)
    try:
        decision = _decision(name, envelope, judged.decision, _reason(by, decision_id))
    except DecisionError as error:
        raise UnusableReply(str(error), reply) from None
    return Heard(decision, judged.decision, decision_id)


def _plain_success(reply: Reply) -> bool:
    coding = reply.headers.get("Content-Encoding", "identity").lower()
    return not reply.failure and reply.status == HTTPStatus.OK and coding == "identity"


def _picture(reply: Reply, by: str) -> Heard:
    """The picture as it came; its endpoint looks at it closely, outside the event loop."""
    if reply.media_type != JPEG:
        text = f"the content type is {reply.media_type[:60]!r}, not {JPEG}"
        raise UnusableReply(text, reply)
    if not reply.body.startswith(JPEG_BEGINS):
        raise UnusableReply("the body is no JPEG, though its content type says so", reply)
    digest = hashlib.sha256(reply.body).hexdigest()
    return Heard(Avatar(reply.body, reason=_reason(by, "")), ("picture", digest))


def _envelope(reply: Reply) -> Mapping[str, Any] | None:
    """The object that the body of a 200 holds, or ``None``: what is wrong is for ``judge``."""
    if not _plain_success(reply) or reply.media_type != JSON:
        return None
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _decision(
    name: str, envelope: Mapping[str, Any], comparable: Comparable, reason: str | None
) -> Decision:
    """The decision in an envelope that was judged; raises ``DecisionError``."""
    action, result = envelope.get("action"), envelope.get("result") or {}
    if comparable == ABSTAINED:
        return Continue(reason=reason)
    if name == "directory_information":
        told = {k: envelope[k] for k in ("ignore_local",) if k in envelope}
        return Directory.from_result({"entries": result or [], **told}, reason=reason)
    if action == "reject":
        said = result if ENDPOINTS[name].tells_reject_reason else {}
        return Reject.from_result(said, reason=reason)
    if action == "redirect":
        return Redirect.from_result(result, reason=reason)
    decision = ENDPOINTS[name].from_result(result)
    return type(decision).from_result(decision.set_fields(), reason=reason)


def _told_id(envelope: Mapping[str, Any]) -> str:
    told = envelope.get("decision_id")
    return told if isinstance(told, str) and _ID.fullmatch(told) else ""


def _reason(by: str, decision_id: str) -> str | None:
    """Who answered. What the other server says of its reasons stays there: it may hold a PIN."""
    if not by:
        return None
    return f"answered by {by}" + (f", there {decision_id}" if decision_id else "")
