"""Judging one reply: what HTTP says of it, then its envelope and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

from pexpolicy.conformance.decoding import wrongly_decoded
from pexpolicy.conformance.envelope import judge_envelope
from pexpolicy.conformance.findings import (
    CheckResult,
    Finding,
    SentRequest,
    Topic,
    violation,
    warning,
)
from pexpolicy.conformance.http_client import Reply
from pexpolicy.conformance.strict_json import NotJSONError, strict_json
from pexpolicy.models.rules import Confidence

UNREADABLE = {400, 405, 411, 413, 414, 415, 422, 431}
KEPT_OUT = {401, 403, 407}


def judge(asked: SentRequest, reply: Reply, limit: float) -> CheckResult:
    """Everything that is wrong with a reply, and the decision that Infinity would read in it."""
    if reply.failure:
        return CheckResult([_no_reply(asked, reply, limit)])
    if found := _coded(reply):
        return CheckResult([found])
    findings = _slow(reply, limit)
    if reply.status != HTTPStatus.OK:
        judged = _handed_back(asked, reply)
    elif asked.endpoint == "participant_avatar" and reply.media_type != "application/json":
        from pexpolicy.conformance.avatar import judge_picture  # noqa: PLC0415 - 40 ms of import, for avatars only

        judged = judge_picture(asked, reply)
    else:
        judged = _decision(asked, reply)
    findings += judged.findings + _announced(asked, judged)
    return replace(judged, findings=findings)


def _announced(asked: SentRequest, judged: CheckResult) -> list[Finding]:
    """A breakout room that the server announced must be answered with a service."""
    if not asked.breakout or judged.service or judged.broken:
        return []
    text = "a breakout room that breakout_uuids announced is answered without a service"
    return [violation(Topic.BREAKOUT, text, Confidence.TRANSCRIBED)]


def _no_reply(asked: SentRequest, reply: Reply, limit: float) -> Finding:
    if reply.late:
        text = (
            f"no whole reply within {limit:g} s; Infinity gives up at 5 s and uses its own database"
        )
        return violation(Topic.TIME, text, Confidence.TRANSCRIBED)
    text = f"no reply: {reply.failure}"
    if asked.strain:
        return warning(Topic.CONNECTION, text, Confidence.REPORTED)
    return violation(Topic.FRAMING if reply.torn else Topic.CONNECTION, text)


def _slow(reply: Reply, limit: float) -> list[Finding]:
    if reply.seconds > limit:
        return [
            violation(Topic.TIME, f"the reply took more than {limit:g} s", Confidence.TRANSCRIBED)
        ]
    if reply.seconds > limit / 2:
        text = f"the reply took more than half of the {limit:g} s there are"
        return [warning(Topic.TIME, text)]
    return []


def _coded(reply: Reply) -> Finding | None:
    coding = reply.headers.get("Content-Encoding", "identity").lower()
    if coding == "identity":
        return None
    return violation(Topic.FRAMING, f"the body is coded ({coding[:20]!r}) and nobody asked for it")


def _handed_back(asked: SentRequest, reply: Reply) -> CheckResult:
    """A reply that is not a 200: Infinity goes on by itself, whatever stands in it."""
    findings = [found] if (found := _status(asked, reply)) else []
    if asked.endpoint == "participant_avatar" and reply.media_type == "text/html":
        text = "an HTML page stands in for the missing avatar; that was blamed for trouble"
        findings.append(warning(Topic.CONTENT_TYPE, text, Confidence.REPORTED))
    try:
        body = strict_json(reply.body)
    except NotJSONError:
        body = None
    if isinstance(body, Mapping):
        if body.get("result"):
            text = f"a result is lost beside status {reply.status}: send it with 200"
            findings.append(violation(Topic.STATUS, text, Confidence.DOCUMENTED))
        if body.get("action") in ("reject", "redirect"):
            text = f"whether an action counts beside status {reply.status} is not settled"
            findings.append(warning(Topic.STATUS, text, Confidence.DISPUTED))
    decision = ("continue",) if reply.status == HTTPStatus.NOT_FOUND else ("status", reply.status)
    return CheckResult(findings, decision)


def _status(asked: SentRequest, reply: Reply) -> Finding | None:
    """A finding for a status that is neither 200 nor 404."""
    status = reply.status
    if status == HTTPStatus.NOT_FOUND:
        return None
    said, mark = _meaning(status)
    text = f"{status}: {said}"
    harmless = said == LIKE_404 or (said == UNREAD and asked.strain)
    return (warning if harmless else violation)(Topic.STATUS, text, mark)


LIKE_404 = "it has the effect of a 404, which is what nodes expect"
UNREAD = "the server refuses to read what a node sends"


def _meaning(status: int) -> tuple[str, str]:
    """What a status means to Infinity, and how sure that is."""
    if status in KEPT_OUT:
        return (
            "the server turns the node away and decides nothing; are the credentials right?",
            Confidence.DOCUMENTED,
        )
    if status in UNREADABLE:
        return UNREAD, Confidence.DOCUMENTED
    said, mark = {
        3: ("redirects are not followed", Confidence.TRANSCRIBED),
        4: (LIKE_404, Confidence.DOCUMENTED),
        5: ("the server failed, and Infinity goes on without it", Confidence.DOCUMENTED),
    }.get(status // 100, ("a decision is sent with 200", Confidence.DOCUMENTED))
    return said, mark


def _decision(asked: SentRequest, reply: Reply) -> CheckResult:
    findings = _content_type(reply)
    try:
        body = strict_json(reply.body)
    except NotJSONError as error:
        text = f"the body is not JSON: {error}. Infinity would use its own database"
        return CheckResult([*findings, violation(Topic.JSON, text, Confidence.DOCUMENTED)])
    if not isinstance(body, dict):
        text = "the body is JSON, but not an object with status, action and result"
        return CheckResult([*findings, violation(Topic.JSON, text, Confidence.DOCUMENTED)])
    findings += wrongly_decoded(asked, body)
    judged = judge_envelope(asked, body)
    return replace(judged, findings=findings + judged.findings)


def _content_type(reply: Reply) -> list[Finding]:
    if reply.media_type != "application/json":
        text = f"the content type is {reply.media_type[:60]!r}, not application/json"
        return [violation(Topic.CONTENT_TYPE, text, Confidence.DOCUMENTED)]
    return []
