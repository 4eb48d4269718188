"""The check of one reply: HTTP, content type, JSON, decoding, envelope and result."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import math
import unicodedata
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from pexpolicy.conformance.disposition import (
    ACTIONS,
    REDIRECTED_SERVICE,
    Disposition,
    Reading,
    is_open,
    is_used,
    read_envelope,
    repaired,
    without_null,
    wrong_shape,
)
from pexpolicy.conformance.findings import (
    DISPUTED,
    DOCUMENTED,
    REPORTED,
    TRANSCRIBED,
    CheckResult,
    Finding,
    SentRequest,
    Topic,
    fallback,
    operation,
    violation,
    warning,
)
from pexpolicy.conformance.http_client import Reply
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import JPEG, JSON
from pexpolicy.endpoints.directory_information import DirectoryEntry
from pexpolicy.endpoints.participant_avatar import FORMATS
from pexpolicy.endpoints.service_configuration import service_class
from pexpolicy.models.alias import Alias
from pexpolicy.models.decision import Redirect, Reject
from pexpolicy.models.errors import DecisionError, ValidationIssue
from pexpolicy.models.model import Model
from pexpolicy.models.request import MAX_DIGITS
from pexpolicy.models.validation import NO_FIELD
from pexpolicy.text import brief

if TYPE_CHECKING:
    from PIL import Image

Envelope = Mapping[str, Any]
Result = dict[str, Any]
Findings = Iterator[Finding]
FAILED = ("fail", "failed", "failure", "error")
"""Values of ``status`` of a server that has no decision."""
OUTSIDE: Mapping[str, tuple[str, ...]] = {
    "service_configuration": ("service_type",),
    "participant_properties": ("preauthenticated_role", "bypass_lock", "reject_reason"),
    "media_location": ("location",),
    "directory_information": ("entries", "contacts"),
    "registration_alias": ("username", "password"),
}
"""Fields that belong to the result, and have no other meaning in a reply."""
KEYS = ("alias", "description", "username")
MAX_FINDINGS = 5
"""Maximum number of findings about one list."""
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
MAX_PIXELS = 25_000_000


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
            parse_constant=_finite,
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


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise AmbiguousJSONError(f"{text[:20]} is no finite number")
    return number


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
    if reply.status == HTTPStatus.NOT_FOUND:
        judged = CheckResult([*_not_ok(asked, reply)], ("continue",))
    elif reply.status != HTTPStatus.OK:
        judged = CheckResult([*_not_ok(asked, reply)], ("status", reply.status))
    elif asked.endpoint == "participant_avatar" and reply.media_type != JSON:
        judged = _picture(asked, reply)
    else:
        judged = _decision(asked, reply)
    if reply.seconds > limit / 2:
        is_late = reply.seconds > limit
        text = f"the reply took more than {'' if is_late else 'half of '}the limit of {limit:g} s"
        judged.findings.append((violation if is_late else warning)(Topic.TIME, text, TRANSCRIBED))
    if reply.codings - {"identity"}:
        text = f"the header Content-Encoding is {coding}, which is no coding; leave it out"
        judged.findings.append(warning(Topic.FRAMING, text, REPORTED))
    return judged


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
    if not isinstance(body, dict):
        return
    if body.get("result"):
        text = f"a result is lost with status {reply.status}: send it with 200"
        yield violation(Topic.STATUS, text, DOCUMENTED)
    if body.get("action") in UNSETTLED:
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
    whole = json.dumps(body, ensure_ascii=False).casefold() if asked.traces else ""
    for trace in asked.traces:
        if trace.text.casefold() in whole:
            text = f"a text of the request comes back as …{trace.text}…: {trace.why}"
            findings.append(violation(Topic.DECODING, text, DOCUMENTED))
            break
    judged = _envelope(asked, body)
    return replace(judged, findings=findings + judged.findings)


def _picture(asked: SentRequest, reply: Reply) -> CheckResult:
    """Return the findings about a picture, and a hash of its pixels."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - for avatars only

    findings, pixels = _media_type(reply, JPEG), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(reply.body), formats=FORMATS) as picture:
                faults = [*_faults(asked, picture)]
                if picture.width * picture.height <= MAX_PIXELS:
                    picture.load()
                    pixels = ("picture", hashlib.sha256(picture.tobytes()).hexdigest())
    except Exception as error:  # noqa: BLE001 - decoders raise errors of all kinds on broken input
        unknown = isinstance(error, UnidentifiedImageError)
        what = "cannot be identified" if unknown else str(error)[:100]
        faults = [f"the picture cannot be read: {what}"]
    wrong = (f"{fault}. Infinity would show a placeholder" for fault in faults)
    findings += (violation(Topic.AVATAR, text, TRANSCRIBED) for text in wrong)
    return CheckResult(findings, pixels)


def _faults(asked: SentRequest, picture: Image.Image) -> Iterator[str]:
    if picture.format != "JPEG":
        yield f"the picture is a {picture.format}, not a JPEG"
    elif picture.mode not in ("RGB", "RGBA"):
        yield f"the picture's colours are {picture.mode}, not RGB"
    width, height = picture.size
    requested = (int(asked.get("width")), int(asked.get("height")))
    if (width, height) != requested:
        yield f"the picture is {width}x{height}, not {requested[0]}x{requested[1]} as requested"


def _envelope(asked: SentRequest, body: Envelope) -> CheckResult:
    """Return the findings about a reply with status 200, and how Infinity reads it."""
    reading = read_envelope(asked.endpoint, body, asked.extras)
    found = [
        *_action(asked, body, reading),
        *_status_and_result(asked, body, reading),
        *_outside(asked, body, reading),
    ]
    if reading.disposition is Disposition.DROPPED and not CheckResult(found).broken:
        found.append(violation(Topic.RESULT, reading.text, TRANSCRIBED))
    return CheckResult(found, _comparable(asked, body, reading), reading)


def _comparable(asked: SentRequest, body: Envelope, reading: Reading) -> tuple[Any, ...]:
    """Return what Infinity reads of a reply, without the keys of the server's own."""
    if reading.disposition in (Disposition.CONTINUE, Disposition.ABSTAIN):
        return ("continue",)
    action: Any = body.get("action")
    result: Any = body.get("result")
    if reading.disposition is not Disposition.DROPPED:
        result = reading.result
        named = reading.disposition in (Disposition.REJECT, Disposition.REDIRECT)
        action = reading.disposition.value if named else None
    ignore_local = body.get("ignore_local") if asked.endpoint == "directory_information" else None
    core = {"action": action, "result": result or None, "ignore_local": ignore_local}
    return ("decision", json.dumps(core, sort_keys=True))


def _action(asked: SentRequest, body: Envelope, reading: Reading) -> Findings:
    action, allowed = body.get("action"), ACTIONS.get(asked.endpoint, ())
    if action in (None, "continue", *allowed):
        return
    if allowed:
        is_ignored = reading.disposition is Disposition.RESULT and is_used(asked.endpoint, reading)
        text = f"action = {brief(action)} is not one of {', '.join(allowed)}"
        text += "; it is ignored next to a valid result" * is_ignored
        yield (warning if is_ignored else violation)(Topic.ACTION, text, DOCUMENTED)
    elif action in ("reject", "redirect"):
        text = f"this request has no action {action}: Infinity would ignore it"
        yield violation(Topic.ACTION, text, TRANSCRIBED)
    else:
        text = f"this request has no action; {brief(action)} is ignored"
        yield warning(Topic.ACTION, text, REPORTED)


def _outside(asked: SentRequest, body: Envelope, reading: Reading) -> Findings:
    """Yield a warning if fields of a result are next to it, where Infinity does not read them."""
    names = [name for name in OUTSIDE.get(asked.endpoint, ()) if name in body]
    if reading.disposition is Disposition.CONTINUE and names:
        text = f"{brief(names[0])} is not in the result, so Infinity ignores it"
        yield warning(Topic.RESULT, text, DOCUMENTED)


def _status_and_result(asked: SentRequest, body: Envelope, reading: Reading) -> Findings:
    endpoint, action, result = asked.endpoint, body.get("action"), body.get("result")
    is_empty = result is None or result in ({}, [])
    if body.get("status") != "success":
        yield _failed(body, reading)
    elif not is_empty and (text := wrong_shape(endpoint, result)):
        yield violation(Topic.RESULT, text, TRANSCRIBED)
    elif endpoint == "participant_avatar" and result:
        yield violation(Topic.AVATAR, reading.text, TRANSCRIBED)
    elif endpoint == "participant_avatar":
        yield warning(Topic.AVATAR, "if there is no picture, answer 404", DOCUMENTED)
    elif action == "reject" and endpoint in ACTIONS:
        yield from _reject(asked, body, reading)
    elif endpoint == "service_configuration" and (
        action == "redirect" or "new_alias" in without_null(result)
    ):
        yield from _redirect(asked, action, result or {}, reading)
    else:
        yield from map(_from_warning, reading.repairs)
        yield from _result(asked, repaired(endpoint, body)[0] if reading.repairs else body)


def _failed(body: Envelope, reading: Reading) -> Finding:
    status = body.get("status")
    if reading.disposition is Disposition.DROPPED:
        return violation(Topic.ENVELOPE, reading.text, DOCUMENTED)
    text = f"status = {brief(status)}" if "status" in body else "there is no status"
    if other := next((name for name in body if name != "status" and name.lower() == "status"), ""):
        text += f" (names of keys are in lower case, and not {brief(other)})"
    text += "; only the exact text 'success' counts, "
    if reading.disposition is Disposition.REJECT:
        text += "and action = 'reject' still counts: Infinity refuses the call"
        return (warning if status in FAILED else violation)(Topic.ENVELOPE, text, DOCUMENTED)
    text += "so Infinity uses its own database. If that is meant, a 404 is clearer"
    return fallback(Topic.ENVELOPE, text, DOCUMENTED)


def _reject(asked: SentRequest, body: Envelope, reading: Reading) -> Findings:
    """Check a reject: it refuses only if there is no usable result."""
    result = body.get("result") or {}
    if asked.endpoint == "registration_alias" and "result" not in body:
        text = "a reject of a registration needs an empty result"
        yield violation(Topic.REJECT, text, TRANSCRIBED)
    elif asked.endpoint == "participant_properties":
        if others := sorted(result.keys() - {"reject_reason"}):
            text = "in the result of a reject: nothing but reject_reason may be there"
            yield violation(Topic.REJECT, f"{brief(others[0])} {text}", TRANSCRIBED)
            return
        try:
            Reject.from_result(result)
        except DecisionError as error:
            yield _from_issue(error.refusal, Topic.REJECT)
    elif result and reading.disposition is Disposition.DROPPED:
        yield violation(Topic.REJECT, reading.text, DOCUMENTED)
    elif result:
        text = "Infinity drops the result of a reject, or uses it and does not reject; leave it out"
        yield warning(Topic.REJECT, text, REPORTED)


def _redirect(asked: SentRequest, action: Any, result: Any, reading: Reading) -> Findings:
    if action != "redirect" or "service_type" in without_null(result):
        mark = DOCUMENTED if action == "redirect" else TRANSCRIBED
        yield violation(Topic.REDIRECT, reading.text or REDIRECTED_SERVICE, mark)
        return
    if others := sorted(result.keys() - {"new_alias"}):
        text = f"new_alias only, and {brief(others[0])} is there as well"
        yield violation(Topic.REDIRECT, f"the result of a redirect is {text}", TRANSCRIBED)
        return
    try:
        redirect = Redirect.from_result(result)
    except DecisionError as error:
        yield _from_issue(error.refusal, Topic.REDIRECT)
        return
    yield from (replace(_from_warning(text), topic=Topic.REDIRECT) for text in redirect.warnings)
    if Alias(redirect.new_alias) == Alias(asked.get("local_alias")):
        yield warning(Topic.REDIRECT, "the call is redirected to its own alias, and would loop")


def _result(asked: SentRequest, body: Envelope) -> Findings:
    """Yield the findings about the result of a reply with ``status`` success, and no reject."""
    endpoint, result = asked.endpoint, body.get("result")
    if endpoint == "directory_information" and ("result" not in body or result is not None):
        yield from _directory(asked, body)
    elif is_open(endpoint, result):
        text = "user name and password are both empty: any device may register under this alias"
        yield warning(Topic.CREDENTIALS, text, TRANSCRIBED)
    elif result:
        found = _by_model(asked, result)
        yield from found
        if not any(finding.level.fails for finding in found):
            yield from _beyond_model(asked, result)
    elif "result" in body and result is None:
        yield warning(Topic.RESULT, "result is null; leave it out", REPORTED)
    elif result == []:
        text = "the empty result is a list, and not an object; leave it out"
        yield warning(Topic.RESULT, text, REPORTED)
    elif endpoint == "media_location":
        text = "a success without a location may count as invalid; a 404 is safer"
        yield warning(Topic.RESULT, text, DISPUTED)


def _from_issue(issue: ValidationIssue, topic: Topic) -> Finding:
    return violation(topic, str(replace(issue, mark="")), issue.mark)


def _from_warning(text: str) -> Finding:
    """Return the finding for a warning of a model, which ends with its mark in brackets."""
    plain, bracket, mark = text.rpartition(" [")
    return warning(Topic.RESULT, plain if bracket else text, mark.rstrip("]") if bracket else "")


def _by_model(asked: SentRequest, result: Result) -> list[Finding]:
    if asked.endpoint == "participant_properties":
        # One that rejects nothing is the envelope's fault, and no unknown field as well.
        result = {name: value for name, value in result.items() if name != "reject_reason"}
    try:
        decision = ENDPOINTS[asked.endpoint].from_result(result, asked.extras)
    except DecisionError as error:
        issues = _issues(asked, result) or [error.refusal]
        return [_from_issue(issue, Topic.RESULT) for issue in issues]
    return [*map(_from_warning, decision.warnings)]


def _issues(asked: SentRequest, result: Result) -> list[ValidationIssue]:
    """Return every issue of a result but unknown fields, which Infinity appears to ignore."""
    model: type[Model] | None = ENDPOINTS[asked.endpoint].decisions[0]
    if asked.endpoint == "service_configuration":
        model = service_class(result.get("service_type"), asked.extras)
    issues = model.find_issues(result, asked.extras) if model is not None else []
    return [issue for issue in issues if not issue.rule.startswith(NO_FIELD)]


def _beyond_model(asked: SentRequest, result: Result) -> Findings:
    """Yield what is wrong with a result for this request, though its model takes it."""
    if asked.endpoint == "service_configuration":
        yield from _service(asked, result)
    elif asked.endpoint == "registration_alias" and asked.get("auth_type").strip('"') == "sso":
        text = "takes an empty result; user name and password are for credentials only"
        yield violation(Topic.CREDENTIALS, f"single sign-on {text}", TRANSCRIBED)
    elif asked.get("remote_display_name") and result.get("remote_display_name", "") is None:
        text = "remote_display_name may be null only where it was null; the caller has a name"
        yield violation(Topic.RESULT, text, TRANSCRIBED)


def _service(asked: SentRequest, result: Result) -> Findings:
    requested = asked.get("breakout_uuid")
    if requested and result.get("breakout") is not True:
        # A breakout room needs its own fields, not those of another room.
        text = "breakout_uuid is answered without breakout = true"
        yield warning(Topic.BREAKOUT, text, TRANSCRIBED)
    elif requested and str(result.get("breakout_uuid", "")).casefold() != requested.casefold():
        text = "breakout_uuid is not that of the room that was asked for"
        yield violation(Topic.BREAKOUT, text, TRANSCRIBED)
    direction, running = asked.get("call_direction"), asked.get("service_name")
    if direction == "dial_out" and running not in ("", result["name"]):
        text = "the running service that dials out has another name; the answer must match it"
        yield violation(Topic.DIAL_OUT, text, TRANSCRIBED)
    if direction == "non_dial":
        text = "is answered with a service; continue creates nothing"
        yield warning(Topic.NON_DIAL, f"a probe (OPTIONS, SUBSCRIBE, LRQ) {text}", REPORTED)
    elif not asked.get("local_alias") and not requested:
        text = "a request without an alias is answered with a service"
        yield warning(Topic.NON_DIAL, text, REPORTED)


def _directory(asked: SentRequest, body: Envelope) -> Findings:
    entries = body.get("result", [])
    if entries == {}:
        yield warning(Topic.RESULT, "the result of a search is a list, and this is {}", TRANSCRIBED)
        entries = []
    wrong = "ignore_local" in body and not isinstance(body["ignore_local"], bool)
    found = [_entry_fault("ignore_local is neither true nor false")] * wrong
    for number, entry in enumerate(entries):
        found += _entry(number, entry)
        if len(found) >= MAX_FINDINGS:
            yield from found
            return
    limit = asked.get("limit").strip()
    if limit.isascii() and limit.isdecimal() and len(entries) > int(limit[:MAX_DIGITS]):
        found.append(_entry_fault(f"{len(entries)} entries, and the limit is {limit}"))
    if not any(finding.level.fails for finding in found) and not _is_sorted(entries):
        found.append(_entry_fault("the entries are not sorted by any of their keys"))
    yield from found


def _entry_fault(text: str) -> Finding:
    return violation(Topic.DIRECTORY, text, TRANSCRIBED)


def _entry(number: int, entry: Any) -> Findings:
    if not isinstance(entry, dict):
        yield _entry_fault(f"entry {number} is not an object")
    elif missing := [key for key in KEYS if key not in entry]:
        text = f"has no {' and no '.join(missing)}; all three keys must be there"
        yield _entry_fault(f"entry {number} {text}")
    else:
        try:
            warnings = DirectoryEntry.from_result(entry).warnings
        except DecisionError as error:
            yield _entry_fault(f"entry {number}: {error}")
        else:
            yield from (warning(Topic.DIRECTORY, f"entry {number}: {text}") for text in warnings)


def _is_sorted(entries: list[dict[str, str]]) -> bool:
    """Return True if the entries are sorted by one of their keys, in one of the usual collations.

    A key that is the same everywhere, such as an empty user name, is no order.
    """
    columns = [[entry[key] for entry in entries] for key in KEYS]
    told_apart = [values for values in columns if len(set(values)) > 1]
    orders = (str, str.casefold, _unaccented)
    return not told_apart or any(v == sorted(v, key=order) for v in told_apart for order in orders)


def _unaccented(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in folded if c.isalnum())
