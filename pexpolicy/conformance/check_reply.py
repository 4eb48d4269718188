"""The check of one reply: HTTP, content type, JSON, decoding, then envelope and result."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from pexpolicy.conformance.envelope import judge_envelope
from pexpolicy.conformance.findings import (
    CheckResult,
    Finding,
    SentRequest,
    Topic,
    operation,
    violation,
    warning,
)
from pexpolicy.conformance.http_client import Reply
from pexpolicy.endpoints.participant_avatar import FORMATS
from pexpolicy.models.rules import Confidence
from pexpolicy.text import brief

if TYPE_CHECKING:
    from PIL import Image


class NotJSONError(ValueError):
    """The body is not JSON, or JSON that parsers read differently."""


class AmbiguousJSONError(NotJSONError):
    """Some parsers take the body, and not all of them read the same in it."""


def strict_json(body: bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises ``NotJSONError`` for anything else: a byte order mark, a duplicate key, NaN and infinity,
    half a surrogate pair, a number beyond a double, excessive nesting.
    """
    if body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise AmbiguousJSONError("it begins with a byte order mark")
    if not body.strip():
        raise NotJSONError("it is empty")
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_reject_constant,
            parse_float=_finite,
        )
        # It refuses half a surrogate pair, numbers beyond a double, and, unlike Python 3.12 and
        # later, a nesting of more than 1,024 levels.
        orjson.loads(body)
    except UnicodeDecodeError:
        raise NotJSONError("it is not UTF-8") from None
    except RecursionError:
        raise NotJSONError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise NotJSONError(f"{error.msg.removesuffix(' at')} at character {error.pos}") from None
    except NotJSONError:
        raise
    except ValueError:
        # Python converts no whole number of more than 4,300 digits.
        raise AmbiguousJSONError("a number is too large") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise AmbiguousJSONError(f"the key {key[:60]!r} occurs twice")
        found[key] = value
    return found


def _reject_constant(text: str) -> NoReturn:
    raise AmbiguousJSONError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise AmbiguousJSONError("a number is too large")
    return number


UNREADABLE = {400, 405, 411, 413, 414, 415, 422, 431}
ACCESS_DENIED = {401, 403, 407}
UNSETTLED = ("reject", "redirect")
"""Actions that may or may not count with a status other than 200."""
CODINGS = frozenset(("gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"))
"""Content codings that change the body; servers also name a charset there, or nothing."""
MAX_JSON = 128 * 1024
"""Maximum size of a decision in bytes that is relayed: four times the largest directory that
Infinity requests. Parsing a megabyte of small values blocks the process for a quarter of a second.
"""
PLACEHOLDER = "Infinity would show a placeholder"
MAX_PIXELS = 25_000_000


def judge(asked: SentRequest, reply: Reply, limit: float) -> CheckResult:
    """Return all findings about a reply, and the decision that Infinity would read in it.

    ``limit`` is the time for a whole reply in seconds.
    """
    if reply.failure:
        return CheckResult([_no_reply(asked, reply, limit)])
    if reply.codings & CODINGS:
        return CheckResult([_coded(reply)])
    findings = _duration(reply, limit)
    if reply.codings - {"identity"}:
        findings.append(_no_coding(reply))
    if reply.status != HTTPStatus.OK:
        judged = _not_ok(asked, reply)
    elif asked.endpoint == "participant_avatar" and reply.media_type != "application/json":
        judged = _judge_picture(asked, reply)
    else:
        judged = _decision(asked, reply)
    findings += judged.findings + _announced_breakout(asked, judged)
    return replace(judged, findings=findings)


def _announced_breakout(asked: SentRequest, judged: CheckResult) -> list[Finding]:
    """Return a finding if a breakout room that the server announced gets no service."""
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
    return violation(Topic.FRAMING, text) if reply.torn else operation(Topic.CONNECTION, text)


def _duration(reply: Reply, limit: float) -> list[Finding]:
    if reply.seconds > limit:
        text = f"the reply took more than {limit:g} s"
        return [violation(Topic.TIME, text, Confidence.TRANSCRIBED)]
    if reply.seconds > limit / 2:
        return [warning(Topic.TIME, f"the reply took more than half of the limit of {limit:g} s")]
    return []


def _coded(reply: Reply) -> Finding:
    coding = brief(reply.headers["Content-Encoding"], 20)
    return violation(
        Topic.FRAMING, f"the body has the content coding {coding}, which was not requested"
    )


def _no_coding(reply: Reply) -> Finding:
    coding = brief(reply.headers["Content-Encoding"], 20)
    text = f"the header Content-Encoding is {coding}, which is no coding; leave it out"
    return warning(Topic.FRAMING, text, Confidence.REPORTED)


def _not_ok(asked: SentRequest, reply: Reply) -> CheckResult:
    """Check a reply that is not a 200: Infinity uses its own database, whatever the body is."""
    findings = [found] if (found := _status(asked, reply)) else []
    if not findings and asked.endpoint == "participant_avatar" and reply.media_type == "text/html":
        text = "the missing avatar is answered with an HTML page, which is reported to cause faults"
        findings.append(warning(Topic.CONTENT_TYPE, text, Confidence.REPORTED))
    try:
        body = strict_json(reply.body)
    except NotJSONError:
        body = None
    if isinstance(body, Mapping):
        if body.get("result"):
            text = f"a result is lost with status {reply.status}: send it with 200"
            findings.append(violation(Topic.STATUS, text, Confidence.DOCUMENTED))
        if body.get("action") in UNSETTLED:
            text = f"whether an action counts with status {reply.status} is not settled"
            findings.append(warning(Topic.STATUS, text, Confidence.DISPUTED))
    decision = ("continue",) if reply.status == HTTPStatus.NOT_FOUND else ("status", reply.status)
    return CheckResult(findings, decision)


def _status(asked: SentRequest, reply: Reply) -> Finding | None:
    """Return a finding for a status that is neither 200 nor 404."""
    status = reply.status
    make, mark = violation, Confidence.DOCUMENTED
    if status == HTTPStatus.NOT_FOUND:
        return None
    if status in ACCESS_DENIED:
        make, text = operation, "the server refuses access to the node; check user and password"
    elif status in UNREADABLE:
        make = warning if asked.strain else operation
        text = "the server refuses to read what a node sends"
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
        make, text = operation, "the server limits requests; Infinity uses its own database"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        make, text = operation, "the server failed; Infinity uses its own database"
    elif status >= HTTPStatus.BAD_REQUEST:
        make, text = warning, "it has the effect of a 404, which is what nodes expect"
    elif status >= HTTPStatus.MULTIPLE_CHOICES:
        text, mark = "redirects are not followed", Confidence.TRANSCRIBED
    else:
        text = "a decision is sent with 200"
    return make(Topic.STATUS, f"{status}: {text}", mark)


def _decision(asked: SentRequest, reply: Reply) -> CheckResult:
    findings = []
    if reply.media_type != "application/json":
        text = f"the content type is {reply.media_type[:60]!r}, not application/json"
        findings.append(violation(Topic.CONTENT_TYPE, text, Confidence.DOCUMENTED))
    if len(reply.body) > MAX_JSON:
        text = f"the body is longer than {MAX_JSON} bytes; the plugin upstream would not relay it"
        findings.append(warning(Topic.JSON, text))
    try:
        body = strict_json(reply.body)
    except NotJSONError as error:
        return CheckResult([*findings, _not_json(error)])
    if not isinstance(body, dict):
        text = "the body is JSON, but not an object with status, action and result"
        return CheckResult([*findings, violation(Topic.JSON, text, Confidence.DOCUMENTED)])
    findings += _decoding(asked, body)
    judged = judge_envelope(asked, body)
    return replace(judged, findings=findings + judged.findings)


def _not_json(error: NotJSONError) -> Finding:
    if isinstance(error, AmbiguousJSONError):
        text = f"parsers read this body differently: {error}. Infinity may use its own database"
        return violation(Topic.JSON, text, "RFC 8259")
    text = f"the body is not JSON: {error}. Infinity would use its own database"
    return violation(Topic.JSON, text, Confidence.DOCUMENTED)


def _decoding(asked: SentRequest, body: Any) -> list[Finding]:
    """Return a finding for the first text that shows that the request was decoded wrongly."""
    for text in _texts(body) if asked.traces else ():
        folded = text.casefold()
        for trace in asked.traces:
            if trace.text.casefold() in folded:
                what = f"a text of the request comes back as …{trace.text}…: {trace.why}"
                return [violation(Topic.DECODING, what, Confidence.DOCUMENTED)]
    return []


def _texts(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        match pending.pop():
            case str(text):
                yield text
            case dict(inner):
                yield from inner
                pending += inner.values()
            case list(items):
                pending += items
            case _:
                pass


def _judge_picture(asked: SentRequest, reply: Reply) -> CheckResult:
    """Return the findings about a picture; the decision is a hash of its pixels."""
    findings = []
    if reply.media_type != "image/jpeg":
        text = f"the content type is {reply.media_type[:60]!r}, not image/jpeg"
        findings.append(violation(Topic.CONTENT_TYPE, text, Confidence.DOCUMENTED))
    found, pixels = _decode(asked, reply.body)
    return CheckResult(findings + found, ("picture", pixels) if pixels else None)


def _decode(asked: SentRequest, body: bytes) -> tuple[list[Finding], str]:
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - for avatars only

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body), formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    return [_wrong(f"the picture has more than {MAX_PIXELS} pixels")], ""
                picture.load()
                findings = _format(picture) + _size(asked, picture)
                return findings, hashlib.sha256(picture.tobytes()).hexdigest()
    except Exception as error:  # noqa: BLE001 - decoders raise errors of all kinds on broken input
        what = "cannot be identified" if isinstance(error, UnidentifiedImageError) else str(error)
        return [_wrong(f"the picture cannot be read: {what[:100]}")], ""


def _format(picture: Image.Image) -> list[Finding]:
    if picture.format != "JPEG":
        return [_wrong(f"the picture is a {picture.format}, not a JPEG")]
    if picture.mode not in ("RGB", "RGBA"):
        return [_wrong(f"the picture's colours are {picture.mode}, not RGB")]
    return []


def _size(asked: SentRequest, picture: Image.Image) -> list[Finding]:
    requested = (int(asked.get("width")), int(asked.get("height")))
    if picture.size == requested:
        return []
    width, height = picture.size
    return [
        _wrong(f"the picture is {width}x{height}, not {requested[0]}x{requested[1]} as requested")
    ]


def _wrong(text: str) -> Finding:
    return violation(Topic.AVATAR, f"{text}. {PLACEHOLDER}", Confidence.TRANSCRIBED)
