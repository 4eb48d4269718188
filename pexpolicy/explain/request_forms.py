"""Requests in the forms that people copy: URLs, and lines of the audit and of other logs."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import quote, unquote, urlencode
from zoneinfo import ZoneInfo

import msgspec
from multidict import MultiDict
from yarl import URL

from pexpolicy.audit.redaction import REMOVED
from pexpolicy.config.plugin_settings import zone_names
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.request import (
    ORIGIN,
    POLICY_PREFIX,
    Params,
    header_name,
    parameters_of,
)
from pexpolicy.text import printable

ALIAS = "alias"
AUDIT_LINE = "audit line"
HASH = "hash:"
"""The beginning of a value that is hashed."""
EXAMPLE = "/policy/v1/service/configuration?local_alias=meet07"
NO_REQUEST = "its path is no policy request"
MAX_QUOTED = 120
"""Characters of an invalid request that its error message repeats."""
_URL_END = re.compile(r'[\s"]')
_REQUEST_LINE = re.compile(r'"[A-Z]+ $')
_ESCAPE = re.compile(r"&(?:quot|lt|gt|amp|#\d+|#x[0-9a-f]+);")
"""With a semicolon: html.unescape also replaces names without one, as in &region=."""


class InvalidRequestError(ValueError):
    """The input is not a request of Infinity."""


class NoRequestError(InvalidRequestError):
    """A record that is whole, and has no request that could be asked; ``why`` is short."""

    def __init__(self, why: str, text: str = "") -> None:
        super().__init__(text or why)
        self.why = why


class AuditLine(msgspec.Struct, gc=False):
    """What a line of the audit tells of a call."""

    timestamp: datetime | None = None
    request: dict[str, str | list[str]] = {}
    decision_id: str = ""
    policy_hash: str = ""
    endpoint: str = ""
    peer: str | None = None
    environment: str | None = None
    credential: int = 0
    decided_by: str | None = None
    reason: str | None = None
    action: str = "continue"
    status: int = 200
    sent: Any = None
    removed: tuple[str, ...] = ()
    redaction_error: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that was read from a record."""

    endpoint: str
    alias: str
    """That in the path; empty for an endpoint without one."""
    params: Params
    form: str = "URL"
    at: datetime | None = None
    """The time of the record."""
    peer: str | None = None
    """The address of the client."""
    environment: str | None = None
    """The platform that asks."""
    missing: tuple[str, ...] = ()
    """Names of parameters that the record was written without."""
    altered: tuple[str, ...] = ()
    """Names of parameters with a hash as their value, or with ``***`` for a part of it."""
    is_cut: bool = False
    """True where the end of the record is missing, and perhaps parameters with it."""
    assumed: frozenset[str] = frozenset()
    """Names of parameters that neither a record nor the user gave."""
    line: AuditLine | None = None
    """The audit line, if it is one."""
    base_path: str | None = None
    """What precedes the path of the request, if the record has it as the server was asked."""
    written: str = ""
    """Path and query as they were written, if they are known."""

    def target(self) -> str:
        """Return path and query, without the base path."""
        return self.written or target_of(self.endpoint, self.alias, self.params)


def target_of(endpoint: str, alias: str, params: Mapping[str, Any]) -> str:
    """Return the path and query of a request, escaped as Infinity does; a value may be a list."""
    query = urlencode([*params.items()], doseq=True)
    return f"{ENDPOINTS[endpoint].path}{quote(alias, safe='')}?{query}"


def read_request(text: str) -> RecordedRequest:
    """Read a request from a path with its query, a whole URL, or a record of one.

    Records are lines of the audit log, of Infinity's support log and of access logs. Raise
    ``InvalidRequestError`` for other input.
    """
    text = text.strip()
    record = _json_object(text)
    if record is not None:
        event = record.get("event")
        if event == "decision" and isinstance(record.get("request"), dict):
            return of_audit_line(record)
        if event in ("refused", "shadow", "checkpoint", "retracted", "end"):
            msg = f"this audit line cannot be explained: its event is {event!r}, without a request"
            raise InvalidRequestError(msg)
        text = json.dumps(record, ensure_ascii=False)
    elif "&quot;" in text or "&#34;" in text:
        text = _ESCAPE.sub(lambda found: html.unescape(found[0]), text)
    head, prefix, tail = text.partition(POLICY_PREFIX)
    if not prefix:
        raise _not_a_request(text)
    # One expression for the whole URL would take long for a long word before it.
    begin, end = _URL_END.split(head)[-1], _URL_END.split(tail, maxsplit=1)[0]
    before, after = head.removesuffix(begin), tail.removeprefix(end)
    word = begin + prefix + end
    if word.startswith("'"):  # a URL may end in one by itself
        word = word[1:].removesuffix("'")
    try:
        url = URL(word, encoded=True)
    except ValueError:
        raise InvalidRequestError("this is not a URL") from None
    base_path, prefix, rest = url.raw_path_qs.partition(POLICY_PREFIX)
    name, alias = _endpoint_of(url.raw_path.removeprefix(base_path))
    found = RecordedRequest(name, alias, url.query, base_path=base_path, written=f"{prefix}{rest}")
    if not f"{before}{after}".strip('"'):
        return found
    is_logged = before.lower().endswith('url="')
    is_cut = is_logged and not after.startswith('"')
    if record is None and _REQUEST_LINE.search(before):
        is_cut = not after.startswith(" HTTP/")
    at = parse_time(f"{before} {after}", UTC if is_logged else None)
    form = "support log" if is_logged else "access log"
    return replace(found, form=form, at=at, is_cut=is_cut)


def _endpoint_of(path: str) -> tuple[str, str]:
    """Return the endpoint of a path, and its alias decoded once; raise ``NoRequestError``."""
    for name, endpoint in ENDPOINTS.items():
        alias = path.removeprefix(endpoint.path)
        if endpoint.path.endswith("/") and alias not in ("", path):
            return name, unquote(alias)
        if path == endpoint.path and not path.endswith("/"):
            return name, ""
    raise _not_a_request(path)


def _not_a_request(text: str) -> NoRequestError:
    quoted = printable(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…")
    text = f"{quoted or '(nothing)'} is not one of the paths of Infinity, such as {EXAMPLE}"
    return NoRequestError(NO_REQUEST, text)


def with_parameters(request: RecordedRequest, changes: Mapping[str, list[str]]) -> RecordedRequest:
    """Return a request with other values of parameters.

    They have the names of the request's attributes, or those on the wire; ``alias`` is the alias in
    the path of the requests that have one, ``peer`` the address of the client, ``environment`` the
    platform. Raise ``InvalidRequestError`` for a value that cannot be set.
    """
    if not changes:
        return request
    known = parameters_of(ENDPOINTS[request.endpoint].request)
    query, given, others = [*request.params.items()], set[str](), dict[str, Any]()
    for key, values in changes.items():
        if key in ORIGIN or (key == ALIAS and request.alias):
            if len(values) > 1 or not values[0]:
                raise InvalidRequestError(f"{key} is one text, and never empty")
            others[key] = values[0]
            continue
        attribute, _, part = key.partition(".")
        wire = known[attribute].wire + part if attribute in known else key
        # A parameter from a header has several spellings.
        query = [pair for pair in query if header_name(pair[0]) != header_name(wire)]
        query += [(wire, value) for value in values]
        given.add(wire)
    assumed = request.assumed - given
    return replace(request, params=MultiDict(query), assumed=assumed, written="", **others)


def _json_object(text: str) -> dict[str, Any] | None:
    """Return the object in a line, which may follow the prefix of a log."""
    _, begin, rest = text.partition('{"')
    try:
        found, _ = json.JSONDecoder().raw_decode(begin + rest)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def of_audit_line(record: Mapping[str, Any]) -> RecordedRequest:
    """Read the request of a decoded audit line; raise ``InvalidRequestError`` without one."""
    try:
        line = msgspec.convert(record, AuditLine)
        sent = msgspec.json.encode(line.sent)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidRequestError(f"this audit line is damaged: {error}") from None
    at, name, written = line.timestamp, line.endpoint, line.request
    if name not in ENDPOINTS:
        raise NoRequestError(f"this audit line has the endpoint {name!r}, which does not exist")
    if line.redaction_error:
        raise NoRequestError(
            "this audit line was written without its request, as that could not be redacted"
        )
    has_alias = ENDPOINTS[name].path.endswith("/")
    alias = written.pop("alias", "") if has_alias else ""
    if not isinstance(alias, str) or bool(alias) != has_alias:
        raise NoRequestError("this audit line has no alias: [privacy] personal is dropped")
    if at is not None:
        if at.year not in _YEARS:
            raise InvalidRequestError("its time is out of range")
        at = at.astimezone(UTC)
    pairs = [
        (key, value)
        for key, values in written.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    texts = (*pairs, (ALIAS, alias))
    altered = dict.fromkeys(k for k, text in texts if text.startswith(HASH) or REMOVED in text)
    # Other removed names are those of fields of the reply.
    missing = [one for one in line.removed if msgspec.json.encode(one) + b":" not in sent]
    return RecordedRequest(
        name,
        alias,
        MultiDict(pairs),
        AUDIT_LINE,
        at,
        line.peer,
        missing=tuple(missing),
        altered=tuple(altered),
        line=line,
    )


# ---- times of records, and of dry runs
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?(?!\d)")
_LOG_TIME = re.compile(r"(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d)(?:\.\d+)?( [+-]\d{4})?")
"""The time of the common log format, and that of HAProxy, which is local."""
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DAYS = {"today": 0, "yesterday": 1}
_YEARS = range(1970, 9000)
"""Those in which a call may have been."""


def parse_moment(text: str, now: datetime | None = None, zone: tzinfo | None = None) -> datetime:
    """Parse ``2026-12-24 22:00 Europe/Oslo`` or ``2026-12-24 22:00+01:00``.

    With ``now`` also ``09:00`` (today), ``today``, ``yesterday`` and ``2h`` ago; a time without a
    zone then is of ``zone``, or local. Raise ``ValueError`` for other text.
    """
    written, _, name = text.strip().rpartition(" ")
    if name in zone_names():
        zone = ZoneInfo(name)
    else:
        written = text.strip()
    with suppress(ValueError, OverflowError):
        if now is not None:
            if (span := _SPAN.fullmatch(written)) is not None:
                return now - timedelta(**{_UNITS[span[2]]: float(span[1])})
            today = now.astimezone(zone).date()
            if written in _DAYS:
                written = str(today - timedelta(days=_DAYS[written]))
            elif re.fullmatch(r"\d\d:\d\d(:\d\d)?", written):
                written = f"{today} {written}"
        found = datetime.fromisoformat(written)
        zone = found.tzinfo or zone
        if now is not None or zone is not None:
            # By way of UTC, as a time that clocks skip is the one that they show then.
            return found.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)
    forms = "" if now is None else "09:00, today, yesterday, 15m, 2h or 3d for that long ago, or "
    raise ValueError(
        f"{text!r} is not a time: write {forms}2026-12-24 22:00 Europe/Oslo, or +01:00 for the zone"
    )


def parse_time(text: str, zone: tzinfo | None = None) -> datetime | None:
    """Return the first time in a text; one without an offset is in ``zone``, or local.

    ``None`` for a text without a time.
    """
    try:
        if (logged := _LOG_TIME.search(text)) is not None:
            form = "%d/%b/%Y:%H:%M:%S %z" if logged[2] else "%d/%b/%Y:%H:%M:%S"
            found = datetime.strptime(logged[1] + (logged[2] or ""), form)  # noqa: DTZ007 - local
        elif (iso := _ISO_TIME.search(text)) is not None:
            found = datetime.fromisoformat(iso[0])
        else:
            return None
        found = (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if found.year in _YEARS else None
