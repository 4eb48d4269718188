"""The check of one reply: HTTP, content type, JSON, decoding, then envelope and result."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import math
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from pexpolicy.conformance.envelope import judge_envelope
from pexpolicy.conformance.findings import (
    DISPUTED,
    DOCUMENTED,
    REPORTED,
    TRANSCRIBED,
    CheckResult,
    DecodingMarker,
    Finding,
    SentRequest,
    Topic,
    operation,
    violation,
    warning,
)
from pexpolicy.conformance.http_client import Reply
from pexpolicy.endpoints.base import JPEG, JSON
from pexpolicy.endpoints.participant_avatar import FORMATS
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
_STATUSES: tuple[tuple[Container[int], Callable[..., Finding], str], ...] = (
    ({401, 403, 407}, operation, "the server refuses access to the node; check user and password"),
    (UNREADABLE, operation, "the server refuses to read what a node sends"),
    ({429}, operation, "the server limits requests; Infinity uses its own database"),
    (range(500, 1000), operation, "the server failed; Infinity uses its own database"),
    (range(400, 500), warning, "it has the effect of a 404, which is what nodes expect"),
    (range(300, 400), violation, "redirects are not followed"),
    (range(300), violation, "a decision is sent with 200"),
)
"""What a status other than 200 and 404 means; the first row that has it counts."""
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
        return CheckResult([no_reply(reply, limit, strain=asked.strain)])
    coding = brief(reply.headers.get("Content-Encoding", ""), 20)
    if reply.codings & CODINGS:
        text = f"the body has the content coding {coding}, which was not requested"
        return CheckResult([violation(Topic.FRAMING, text)])
    findings = []
    if reply.seconds > limit:
        text = f"the reply took more than {limit:g} s"
        findings.append(violation(Topic.TIME, text, TRANSCRIBED))
    elif reply.seconds > limit / 2:
        text = f"the reply took more than half of the limit of {limit:g} s"
        findings.append(warning(Topic.TIME, text))
    if reply.codings - {"identity"}:
        text = f"the header Content-Encoding is {coding}, which is no coding; leave it out"
        findings.append(warning(Topic.FRAMING, text, REPORTED))
    if reply.status != HTTPStatus.OK:
        decision = reply.status == HTTPStatus.NOT_FOUND
        judged = CheckResult(
            [*_not_ok(asked, reply)], ("continue",) if decision else ("status", reply.status)
        )
    elif asked.endpoint == "participant_avatar" and reply.media_type != JSON:
        found, pixels = _picture(asked, reply.body)
        kind = _media_type(reply, JPEG)
        judged = CheckResult([*kind, *found], ("picture", pixels) if pixels else None)
    else:
        judged = _decision(asked, reply)
    findings += judged.findings
    return replace(judged, findings=findings)


def no_reply(reply: Reply, limit: float, *, strain: bool = False) -> Finding:
    """Return the finding for a request without a whole reply."""
    if reply.late:
        text = "Infinity gives up at 5 s and uses its own database"
        return violation(Topic.TIME, f"no whole reply within {limit:g} s; {text}", TRANSCRIBED)
    text = f"no reply: {reply.failure}"
    if strain:
        return warning(Topic.CONNECTION, text, REPORTED)
    return violation(Topic.FRAMING, text) if reply.torn else operation(Topic.CONNECTION, text)


def _not_ok(asked: SentRequest, reply: Reply) -> Iterator[Finding]:
    """Check a reply that is not a 200: Infinity uses its own database, whatever the body is."""
    if reply.status != HTTPStatus.NOT_FOUND:
        yield _status(asked, reply.status)
    elif asked.endpoint == "participant_avatar" and reply.media_type == "text/html":
        text = "the missing avatar is answered with an HTML page, which is reported to cause faults"
        yield warning(Topic.CONTENT_TYPE, text, REPORTED)
    try:
        body = strict_json(reply.body)
    except NotJSONError:
        return
    if isinstance(body, Mapping) and body.get("result"):
        text = f"a result is lost with status {reply.status}: send it with 200"
        yield violation(Topic.STATUS, text, DOCUMENTED)
    if isinstance(body, Mapping) and body.get("action") in UNSETTLED:
        text = f"whether an action counts with status {reply.status} is not settled"
        yield warning(Topic.STATUS, text, DISPUTED)


def _status(asked: SentRequest, status: int) -> Finding:
    make, text = next((make, text) for some, make, text in _STATUSES if status in some)
    if status in UNREADABLE and asked.strain:
        make = warning
    mark = TRANSCRIBED if text.startswith("redirects") else DOCUMENTED
    return make(Topic.STATUS, f"{status}: {text}", mark)


def _media_type(reply: Reply, wanted: str) -> list[Finding]:
    if reply.media_type == wanted:
        return []
    text = f"the content type is {reply.media_type[:60]!r}, not {wanted}"
    return [violation(Topic.CONTENT_TYPE, text, DOCUMENTED)]


def _decision(asked: SentRequest, reply: Reply) -> CheckResult:
    findings = _media_type(reply, JSON)
    if len(reply.body) > MAX_JSON:
        text = f"the body is longer than {MAX_JSON} bytes; the plugin upstream would not relay it"
        findings.append(warning(Topic.JSON, text))
    try:
        body = strict_json(reply.body)
    except AmbiguousJSONError as error:
        text = f"parsers read this body differently: {error}. Infinity may use its own database"
        return CheckResult([*findings, violation(Topic.JSON, text, "RFC 8259")])
    except NotJSONError as error:
        text = f"the body is not JSON: {error}. Infinity would use its own database"
        return CheckResult([*findings, violation(Topic.JSON, text, DOCUMENTED)])
    if not isinstance(body, dict):
        text = "the body is JSON, but not an object with status, action and result"
        return CheckResult([*findings, violation(Topic.JSON, text, DOCUMENTED)])
    if trace := _wrong_decoding(asked, body):
        text = f"a text of the request comes back as …{trace.text}…: {trace.why}"
        findings.append(violation(Topic.DECODING, text, DOCUMENTED))
    judged = judge_envelope(asked, body)
    return replace(judged, findings=findings + judged.findings)


def _wrong_decoding(asked: SentRequest, body: Any) -> DecodingMarker | None:
    text = json.dumps(body, ensure_ascii=False).casefold() if asked.traces else ""
    return next((trace for trace in asked.traces if trace.text.casefold() in text), None)


def _picture(asked: SentRequest, body: bytes) -> tuple[list[Finding], str]:
    """Return the findings about a picture, and a hash of its pixels."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - for avatars only

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(body), formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    return [_wrong(f"the picture has more than {MAX_PIXELS} pixels")], ""
                picture.load()
                pixels = hashlib.sha256(picture.tobytes()).hexdigest()
                return [*map(_wrong, _faults(asked, picture))], pixels
    except Exception as error:  # noqa: BLE001 - decoders raise errors of all kinds on broken input
        what = "cannot be identified" if isinstance(error, UnidentifiedImageError) else str(error)
        return [_wrong(f"the picture cannot be read: {what[:100]}")], ""


def _faults(asked: SentRequest, picture: Image.Image) -> Iterator[str]:
    if picture.format != "JPEG":
        yield f"the picture is a {picture.format}, not a JPEG"
    elif picture.mode not in ("RGB", "RGBA"):
        yield f"the picture's colours are {picture.mode}, not RGB"
    width, height = picture.size
    requested = (int(asked.get("width")), int(asked.get("height")))
    if (width, height) != requested:
        yield f"the picture is {width}x{height}, not {requested[0]}x{requested[1]} as requested"


def _wrong(text: str) -> Finding:
    return violation(Topic.AVATAR, f"{text}. {PLACEHOLDER}", TRANSCRIBED)
