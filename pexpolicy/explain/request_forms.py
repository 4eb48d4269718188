"""Requests in the forms that people copy: URLs, and lines of the audit and of other logs."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import Any
from urllib.parse import quote, unquote, urlencode
from zoneinfo import ZoneInfo

from yarl import URL

from pexpolicy.audit.redaction import REMOVED
from pexpolicy.config.plugin_settings import zone_names
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.request import (
    ORIGIN,
    POLICY_PREFIX,
    by_prefix,
    header_name,
    header_values,
    parameters_of,
)
from pexpolicy.text import printable

ALIAS = "alias"
AUDIT_LINE = "audit line"
MAX_QUOTED = 120
"""Characters of an invalid request that its error message repeats."""
_URL_END = re.compile(r'[\s"]')
_REQUEST_LINE = re.compile(r'"[A-Z]+ $')
_ESCAPE = re.compile(r"&(?:quot|lt|gt|amp|#\d+|#x[0-9a-f]+);")
"""With a semicolon: html.unescape also replaces names without one, as in &region=."""


class InvalidRequestError(ValueError):
    """The input is not a request of Infinity."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that was read from a record."""

    url: URL
    """Path and query; a whole URL where the record has one."""
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
    line: Mapping[str, Any] = field(default_factory=dict)
    """The audit line, if it is one."""

    @property
    def names_server(self) -> bool:
        """True where the path is the one that the server was asked, base path included."""
        return self.form not in (ALIAS, AUDIT_LINE)


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
    position = text.find(POLICY_PREFIX)
    if position < 0:
        raise not_a_request(text)
    # One expression for the whole URL would take long for a long word before it.
    start = position - len(_URL_END.split(text[:position])[-1])
    end = position + len(_URL_END.split(text[position:], maxsplit=1)[0])
    before, word, after = text[:start], text[start:end], text[end:]
    if word.startswith("'"):  # a URL may end in one by itself
        word = word[1:].removesuffix("'")
    try:
        url = URL(word, encoded=True)
    except ValueError:
        raise InvalidRequestError("this is not a URL") from None
    if not f"{before}{after}".strip('"'):
        return RecordedRequest(url)
    is_logged = before.lower().endswith('url="')
    is_cut = is_logged and not after.startswith('"')
    if record is None and _REQUEST_LINE.search(before):
        is_cut = not after.startswith(" HTTP/")
    at = parse_time(f"{before} {after}", UTC if is_logged else None)
    return RecordedRequest(url, "support log" if is_logged else "access log", at, is_cut=is_cut)


def endpoint_of(url: URL) -> tuple[str, str, str]:
    """Return the endpoint of a path below any prefix, its alias decoded once, and the prefix.

    Raise ``InvalidRequestError`` for other paths.
    """
    prefix, found, rest = url.raw_path.partition(POLICY_PREFIX)
    below = found + rest
    for name, endpoint in ENDPOINTS.items():
        alias = below.removeprefix(endpoint.path)
        if endpoint.path.endswith("/") and alias not in ("", below):
            return name, unquote(alias), prefix
        if below == endpoint.path and not below.endswith("/"):
            return name, "", prefix
    raise not_a_request(url.raw_path)


def not_a_request(text: str) -> InvalidRequestError:
    """Return the error for a text that is not a request."""
    quoted = printable(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…")
    paths = "\n".join(
        "  " + e.path + ("<alias>" if e.path.endswith("/") else "") for e in ENDPOINTS.values()
    )
    return InvalidRequestError(
        f"{quoted or '(nothing)'} is not one of the paths that Infinity asks for:\n{paths}"
    )


def with_parameters(request: RecordedRequest, changes: Mapping[str, list[str]]) -> RecordedRequest:
    """Return a request with other values of parameters.

    They have the names of the request's attributes, or those on the wire; ``alias`` is the alias in
    the path of the requests that have one, ``peer`` the address of the client, ``environment`` the
    platform. Raise ``InvalidRequestError`` for a value that cannot be set.
    """
    if not changes:
        return request
    name, alias, prefix = endpoint_of(request.url)
    path, known = ENDPOINTS[name].path, parameters_of(ENDPOINTS[name].request)
    query, given = [*request.url.query.items()], set[str]()
    sender: dict[str, Any] = {}
    for key, values in changes.items():
        if key in ORIGIN:
            sender[key] = values[-1]
            continue
        if key == "alias" and path.endswith("/"):
            if len(values) > 1 or not values[0]:
                raise InvalidRequestError("the alias in the path is one text, and never empty")
            alias = values[0]
            continue
        attribute, _, part = key.partition(".")
        parameter, wire = known.get(attribute), key
        if parameter is not None:
            wire = parameter.wire + part if parameter.read is by_prefix else parameter.wire
        # A parameter from a header has several spellings.
        is_header = parameter is not None and parameter.read is header_values
        normal = header_name if is_header else str
        query = [pair for pair in query if normal(pair[0]) != normal(wire)]
        query += [(wire, value) for value in values]
        given.add(wire)
    origin = str(request.url.origin()) if request.url.absolute else ""
    target = f"{origin}{prefix}{path}{quote(alias, safe='')}?{urlencode(query)}"
    assumed = request.assumed - given
    return replace(request, url=URL(target, encoded=True), assumed=assumed, **sender)


def _json_object(text: str) -> dict[str, Any] | None:
    """Return the object in a line, which may follow the prefix of a log."""
    start = text.find('{"')
    try:
        found, _ = json.JSONDecoder().raw_decode(text[start:] if start >= 0 else "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def of_audit_line(record: Mapping[str, Any]) -> RecordedRequest:
    """Read the request of a decoded audit line; raise ``InvalidRequestError`` without one."""
    name = str(record.get("endpoint"))
    if name not in ENDPOINTS:
        msg = f"this audit line has the endpoint {name!r}, which does not exist"
        raise InvalidRequestError(msg)
    if record.get("redaction_error"):
        msg = "this audit line was written without its request, as that could not be redacted"
        raise InvalidRequestError(msg)
    path, written = ENDPOINTS[name].path, dict(record["request"])
    called = str(written.pop("alias", "")) if path.endswith("/") else ""
    if path.endswith("/") and not called:
        raise InvalidRequestError("this audit line has no alias: [privacy] personal is dropped")
    pairs = [
        (key, str(value))
        for key, values in written.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    altered = [
        key
        for key, value in (*pairs, ("alias", called))
        if value.startswith("hash:") or REMOVED in value
    ]
    # Other removed names are those of fields of the reply.
    sent = json.dumps(record.get("sent"))
    removed = map(str, record.get("removed") or ())
    peer = record.get("peer")
    return RecordedRequest(
        URL(f"{path}{quote(called, safe='')}?{urlencode(pairs)}", encoded=True),
        AUDIT_LINE,
        parse_time(str(record.get("timestamp", ""))),
        peer if isinstance(peer, str) else None,
        None,
        tuple(name for name in removed if f"{json.dumps(name)}: " not in sent),
        tuple(dict.fromkeys(altered)),
        line=record,
    )


# ---- times of records, and of dry runs
_ISO_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?\d*(?:Z|[+-]\d\d:?\d\d)?(?!\d)"
)
_LOG_TIME = re.compile(r"(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d)(?:\.\d+)?( [+-]\d{4})?")
"""The time of the common log format, and that of HAProxy, which is local."""


def split_zone(text: str) -> tuple[str, ZoneInfo | None]:
    """Return a time and the zone whose name follows it, as in ``22:00 Europe/Oslo``."""
    written, _, name = text.strip().rpartition(" ")
    return (written, ZoneInfo(name)) if name in zone_names() else (text.strip(), None)


def in_zone(found: datetime, zone: tzinfo | None) -> datetime:
    """Return a time in its zone, or else in the given or local one."""
    # By way of UTC, as a time that clocks skip is the one that they show then.
    zone = found.tzinfo or zone
    return found.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)


def parse_moment(text: str) -> datetime:
    """Parse ``2026-12-24 22:00 Europe/Oslo`` or ``2026-12-24 22:00+01:00``.

    Raise ``ValueError`` for other text, and for a time without a zone.
    """
    written, zone = split_zone(text)
    with suppress(ValueError, OverflowError):
        found = datetime.fromisoformat(written)
        if found.tzinfo or zone:
            return in_zone(found, zone)
    msg = f"{text!r} is not a time: write 2026-12-24 22:00 Europe/Oslo, or +01:00 for the zone"
    raise ValueError(msg)


def parse_time(text: str, zone: tzinfo | None = None) -> datetime | None:
    """Return the first time in a text; one without an offset is in ``zone``, or local.

    ``None`` for a text without a time.
    """
    try:
        if (logged := _LOG_TIME.search(text)) is not None:
            form = "%d/%b/%Y:%H:%M:%S %z" if logged[2] else "%d/%b/%Y:%H:%M:%S"
            found = datetime.strptime(logged[1] + (logged[2] or ""), form)  # noqa: DTZ007 - local
        elif (iso := _ISO_TIME.search(text)) is not None:
            found = datetime.fromisoformat(iso[0].replace(",", "."))
        else:
            return None
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
