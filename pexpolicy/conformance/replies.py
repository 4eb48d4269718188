"""The check of one reply of a policy server, and the decision in it.

For the conformance test, and for plugins that ask other policy servers. A reply that breaks the
contract has no decision; others have one of the classes that the server itself answers with.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from multidict import MultiDict, MultiDictProxy

from pexpolicy.config.outgoing import basic
from pexpolicy.conformance.disposition import Disposition, Reading, read_envelope
from pexpolicy.conformance.findings import (
    DISPUTED,
    DOCUMENTED,
    REPORTED,
    TRANSCRIBED,
    Finding,
    Level,
    SentRequest,
    Topic,
    difference,
    of_issue,
    of_warning,
    operation,
    violation,
    warning,
)
from pexpolicy.conformance.http_client import BARE, LIMIT, Reply, Wire, client_session, fetch
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.endpoints.base import JPEG, JSON
from pexpolicy.endpoints.directory_information import Directory
from pexpolicy.endpoints.participant_avatar import FORMATS, Avatar
from pexpolicy.endpoints.participant_properties import ParticipantProperties
from pexpolicy.endpoints.service_types import Service
from pexpolicy.models.contract import NO_EXTRAS, Extras
from pexpolicy.models.decision import Continue, Decision
from pexpolicy.models.errors import DecisionError
from pexpolicy.models.request import Request, integer
from pexpolicy.text import brief

if TYPE_CHECKING:
    from PIL import Image

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

Findings = Iterator[Finding]
KEYS = ("alias", "description", "username")
UNFIT: Mapping[tuple[str, str], tuple[Level, Topic]] = {
    # A breakout room needs its own fields, not those of another room.
    ("breakout", TRANSCRIBED): (Level.WARNING, Topic.BREAKOUT),
    ("breakout_uuid", TRANSCRIBED): (Level.CONTRACT, Topic.BREAKOUT),
    ("name", TRANSCRIBED): (Level.CONTRACT, Topic.DIAL_OUT),
    ("name", REPORTED): (Level.WARNING, Topic.NON_DIAL),
    ("new_alias", REPORTED): (Level.WARNING, Topic.REDIRECT),
}
"""What a field that does not fit a request is, by the confidence of the rule."""
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
CODINGS = frozenset(("gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"))
"""Content codings that change the body; servers also name a charset there, or nothing."""
MAX_JSON = 128 * 1024
"""Maximum size of a decision in bytes that is relayed: four times the largest directory that
Infinity requests. Parsing a megabyte of small values blocks the process for a quarter of a second.
"""
MAX_PIXELS = 25_000_000


class CheckResult(NamedTuple):
    """The findings about a reply, and its decision."""

    findings: list[Finding]
    decision: Decision | None = None
    """``None`` if there is no decision to compare; a picture is the hash of its pixels."""
    reading: Reading | None = None
    """How Infinity reads the envelope, for a reply with status 200."""

    @property
    def service(self) -> Mapping[str, Any]:
        """The service that Infinity would use; empty if there is none."""
        used = self.reading.decision if self.reading is not None else None
        return used.set_fields() if isinstance(used, Service) else {}

    @property
    def broken(self) -> bool:
        """True for a reply that has no usable decision."""
        return any(finding.level.fails for finding in self.findings)


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
    except (UnicodeDecodeError, RecursionError):
        raise NotJSONError("it is not UTF-8, or nested too deeply") from None
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
        return CheckResult([_no_reply(asked, reply, limit)])
    coding = brief(reply.headers.get("Content-Encoding", ""), 20)
    if reply.codings & CODINGS:
        text = f"the body has the content coding {coding}, which was not requested"
        return CheckResult([violation(Topic.FRAMING, text)])
    if reply.status != HTTPStatus.OK:
        judged = CheckResult([*_not_ok(asked, reply)], Continue())
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


def _no_reply(asked: SentRequest, reply: Reply, limit: float) -> Finding:
    """Return the finding for a request without a whole reply."""
    if reply.late:
        text = "Infinity gives up at 5 s and uses its own database"
        return violation(Topic.TIME, f"no whole reply within {limit:g} s; {text}", TRANSCRIBED)
    text = f"no reply: {reply.failure}"
    if asked.strain:
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
    if body.get("action") in ("reject", "redirect"):
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
        if not isinstance(body, dict):
            raise NotJSONError("it is not an object")  # noqa: TRY301 - one message for all
    except NotJSONError as error:
        is_unclear = isinstance(error, AmbiguousJSONError)
        what = "the body is not JSON with status, action and result"
        what = "parsers read this body differently" if is_unclear else what
        text = f"{what}: {error}. Infinity may use its own database"
        mark = "RFC 8259" if is_unclear else DOCUMENTED
        return CheckResult([*findings, violation(Topic.JSON, text, mark)])
    whole = json.dumps(body, ensure_ascii=False).casefold() if asked.traces else ""
    for trace, why in asked.traces:
        if trace.casefold() in whole:
            text = f"a text of the request comes back as …{trace}…: {why}"
            findings.append(violation(Topic.DECODING, text, DOCUMENTED))
            break
    judged = _envelope(asked, body)
    return CheckResult(findings + judged.findings, judged.decision, judged.reading)


def _picture(asked: SentRequest, reply: Reply) -> CheckResult:
    """Return the findings about a picture, and a hash of its pixels."""
    from PIL import Image  # noqa: PLC0415 - for avatars only

    findings, pixels = _media_type(reply, JPEG), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(reply.body), formats=FORMATS) as picture:
                faults = [*_faults(asked, picture)]
                if picture.width * picture.height <= MAX_PIXELS:
                    picture.load()
                    pixels = Avatar(hashlib.sha256(picture.tobytes()).digest())
    except Exception:  # noqa: BLE001 - decoders raise errors of all kinds on broken input
        faults = ["the picture cannot be read"]
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


def _envelope(asked: SentRequest, body: Mapping[str, Any]) -> CheckResult:
    """Return the findings about a reply with status 200, and how Infinity reads it."""
    reading = read_envelope(asked.endpoint, body, asked.extras)
    found, decision = list(reading.findings), reading.decision
    if isinstance(decision, Directory):
        found += _list(asked, body.get("result"), decision.set_fields()["entries"])
    elif decision is not None and reading.disposition is not Disposition.REJECT:
        found += _unfit(asked, decision)
    return CheckResult(found, decision or Continue(), reading)


def _unfit(asked: SentRequest, decision: Decision) -> Findings:
    """Yield what our own server would refuse or warn of: a decision that does not fit a request."""
    endpoint: Any = ENDPOINTS[asked.endpoint]
    try:
        checked = endpoint.check_answer(
            decision, endpoint.parse(MultiDictProxy(MultiDict(asked.query)))
        )
    except DecisionError as error:
        is_device = asked.endpoint == "registration_alias"
        yield of_issue(error.refusal, Topic.CREDENTIALS if is_device else Topic.RESULT)
        return
    for text in checked.warnings[len(decision.warnings) :]:
        doubt = of_warning(text)
        if (known := UNFIT.get((text.partition(":")[0], doubt.mark))) is not None:
            yield doubt._replace(level=known[0], topic=known[1])
    is_known = asked.get("local_alias") or asked.get("breakout_uuid")
    if isinstance(decision, Service) and not is_known:
        text = "a request without an alias is answered with a service"
        yield warning(Topic.NON_DIAL, text, REPORTED)


def _list(asked: SentRequest, sent: Any, entries: list[dict[str, str]]) -> Findings:
    """Yield what is wrong with valid entries: a missing key, their number, their order."""
    for number, entry in enumerate(sent or ()):
        if "username" not in entry:
            text = f"entry {number} has no username; all of {', '.join(KEYS)} must be there"
            yield violation(Topic.DIRECTORY, text, TRANSCRIBED)
            return
    limit = integer(MultiDict(asked.query), "limit")
    if limit is not None and 0 <= limit < len(entries):
        text = f"{len(entries)} entries, and the limit is {limit}"
        yield violation(Topic.DIRECTORY, text, TRANSCRIBED)
    elif not _is_sorted(entries):
        text = "the entries are not sorted by any of their keys"
        yield violation(Topic.DIRECTORY, text, TRANSCRIBED)


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


FATAL = (Topic.CONTENT_TYPE, Topic.TIME, Topic.BREAKOUT, Topic.CREDENTIALS)
"""Topics of violations for which a reply that can be read is not relayed."""
JPEG_MAGIC = b"\xff\xd8\xff"
NULL_NAME = b'"remote_display_name":null'
NAME_KEPT = (
    "remote_display_name: null is left out: it is allowed only where the caller has no name "
    f"[{TRANSCRIBED}]"
)
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class InvalidReplyError(Exception):
    """Raised for a reply without a usable decision; ``reply`` is that reply."""

    def __init__(self, text: str, reply: Reply) -> None:
        super().__init__(text)
        self.reply = reply


class UpstreamDecision(NamedTuple):
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
        return _picture_of(reply, by)
    if len(reply.body) > MAX_JSON:
        raise InvalidReplyError(
            f"the body is longer than {MAX_JSON} bytes, and not a picture", reply
        )
    # Of a participant only the name of the caller counts, see below.
    query = {} if name == "participant_properties" else request.params
    judged = judge(SentRequest(name, query, extras=extras), reply, LIMIT)
    reading = judged.reading
    for finding in judged.findings:
        is_unsettled = finding.topic is Topic.STATUS and finding.mark == DISPUTED
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
    decision = reading.decision or Continue()
    is_named = request.params.get("remote_display_name") and NULL_NAME in decision.result
    if is_named and isinstance(decision, ParticipantProperties):
        # Infinity drops properties that take the name of the caller away.
        fields = decision.set_fields()
        del fields["remote_display_name"]
        decision = ParticipantProperties.from_result(fields)
        listed.append(NAME_KEPT)
    if reason is not None:
        decision = decision.with_reason(reason)
    repairs = (*reading.repairs, *listed)
    return UpstreamDecision(decision.with_warnings(*repairs), decision_id, repairs)


def _picture_of(reply: Reply, by: str) -> UpstreamDecision:
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
