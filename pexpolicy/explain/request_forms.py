"""Requests in the forms that people copy: URLs, lines of logs and of the audit, cURL commands."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from urllib.parse import quote, unquote, urlencode
from zoneinfo import ZoneInfo

from yarl import URL

from pexpolicy.audit.redaction import REMOVED
from pexpolicy.config.plugin_settings import zone_names
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.models.request import (
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
_LOGGED_URL = re.compile(r'URL="([^"]*)"', re.IGNORECASE)
_ESCAPES = {"&quot;": '"', "&#34;": '"', "&#39;": "'", "&#x27;": "'", "&lt;": "<", "&gt;": ">"}
_HTTP_VERSION = re.compile(r"\sHTTP/\d")
_REQUEST_LINE = re.compile(r'"[A-Z]+ \S*/policy/v1/')


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
    missing: tuple[str, ...] = ()
    """Names of parameters that the record was written without."""
    altered: tuple[str, ...] = ()
    """Names of parameters with a hash as their value, or with ``***`` for a part of it."""
    is_cut: bool = False
    """True where the end of the record is missing, and perhaps parameters with it."""

    given: tuple[str, ...] = ()
    """Names of parameters on the wire that the user wrote, and not the record or a template."""

    @property
    def names_server(self) -> bool:
        """True where the path is the one that the server was asked, base path included."""
        return self.form not in (ALIAS, AUDIT_LINE)


def read_request(text: str) -> RecordedRequest:
    """Read a request from a path with its query, a whole URL, or a record of one.

    Records are lines of the audit log, of Infinity's support log and of access logs, and cURL
    commands. Raise ``InvalidRequestError`` for other input.
    """
    text = text.strip()
    if (start := text.find('{"')) >= 0 and (record := _json_object(text[start:])) is not None:
        return _of_json(record)
    if text.split(None, 1)[:1] == ["curl"]:
        return RecordedRequest(_of_curl(text), "cURL command")
    return _of_line(text)


def endpoint_of(url: URL, base_path: str = "") -> tuple[str, str, str]:
    """Return the endpoint of a path below any prefix, its alias decoded once, and the prefix.

    Raise ``InvalidRequestError`` for other paths.
    """
    path = url.raw_path
    prefix, found, rest = path.partition(POLICY_PREFIX)
    below = found + rest
    for name, endpoint in ENDPOINTS.items():
        if below == endpoint.path and not endpoint.path.endswith("/"):
            return name, "", prefix
        if (
            endpoint.path.endswith("/")
            and below.startswith(endpoint.path)
            and below != endpoint.path
        ):
            return name, unquote(below[len(endpoint.path) :]), prefix
    if rest.startswith(POLICY_PREFIX[1:]):
        msg = (
            f"{path} has /policy/v1 twice: Infinity adds it to the URL of its policy profile, "
            f"which ends in {base_path or 'the name and port of the server'}"
        )
        raise InvalidRequestError(msg)
    raise not_a_request(path)


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
    the path of the requests that have one, ``peer`` the address of the client. Raise
    ``InvalidRequestError`` for a value that cannot be set.
    """
    if not changes:
        return request
    name, _, _ = endpoint_of(request.url)
    known = parameters_of(ENDPOINTS[name].request)
    path, query = request.url.raw_path, [*request.url.query.items()]
    given, peer = dict.fromkeys(request.given), request.peer
    for key, values in changes.items():
        if key == "peer":
            peer = values[-1]
            continue
        if key == "alias" and ENDPOINTS[name].path.endswith("/"):
            before = path[: path.index(ENDPOINTS[name].path)] + ENDPOINTS[name].path
            if len(values) > 1 or not values[0]:
                msg = "the alias in the path is one text, and never empty"
                raise InvalidRequestError(msg)
            path = before + quote(values[0], safe="")
            continue
        attribute, _, part = key.partition(".")
        if (parameter := known.get(attribute)) is None:
            wire = key
        elif parameter.read is by_prefix:
            wire = parameter.wire + part
        else:
            wire = parameter.wire
        same = {wire}
        if parameter is not None and parameter.read is header_values:
            same |= {name for name, _ in query if header_name(name) == header_name(wire)}
        query = [pair for pair in query if pair[0] not in same]
        query += [(wire, value) for value in values]
        given[wire] = None
    origin = str(request.url.origin()) if request.url.absolute else ""
    url = URL(f"{origin}{path}?{urlencode(query)}", encoded=True)
    return replace(request, url=url, peer=peer, given=tuple(given))


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        found, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _of_json(record: dict[str, Any]) -> RecordedRequest:
    event = record.get("event")
    if event == "decision" and isinstance(record.get("request"), dict):
        return of_audit_line(record)
    if event in ("refused", "shadow", "checkpoint", "retracted", "end"):
        why = {
            "refused": "the call was refused before any plugin was asked",
            "shadow": "it has no request; the line of the call has the same decision_id",
        }.get(event, "it is not about a call")
        msg = f"this audit line cannot be explained: its event is {event!r}, and {why}"
        raise InvalidRequestError(msg)
    for _, value in leaves(record):
        if isinstance(value, str) and POLICY_PREFIX in value:
            found = _of_line(value)
            at = found.at or record_time(record)
            return replace(found, form="access log", at=at)
    raise not_a_request(json.dumps(record, ensure_ascii=False))


def of_audit_line(record: Mapping[str, Any]) -> RecordedRequest:
    """Read the request of a decoded audit line; raise ``InvalidRequestError`` without one."""
    name = str(record.get("endpoint"))
    if name not in ENDPOINTS:
        msg = f"this audit line has the endpoint {name!r}, which does not exist"
        raise InvalidRequestError(msg)
    path, written = ENDPOINTS[name].path, dict(record["request"])
    called = str(written.pop("alias", "")) if path.endswith("/") else ""
    pairs = [
        (key, str(value))
        for key, values in written.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    if record.get("redaction_error"):
        msg = "this audit line was written without its request, as that could not be redacted"
        raise InvalidRequestError(msg)
    if path.endswith("/") and not called:
        msg = "this audit line has no alias: [privacy] personal is dropped"
        raise InvalidRequestError(msg)
    altered = [
        key
        for key, value in [*pairs, ("alias", called)]
        if value.startswith("hash:") or REMOVED in value
    ]
    url = URL(f"{path}{quote(called, safe='')}?{urlencode(pairs)}", encoded=True)
    peer = record.get("peer")
    return RecordedRequest(
        url,
        AUDIT_LINE,
        parse_time(str(record.get("timestamp", ""))),
        peer if isinstance(peer, str) else None,
        _missing(record),
        tuple(dict.fromkeys(altered)),
    )


def _missing(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the removed names that are those of parameters, and not of fields of the reply."""
    sent = json.dumps(record.get("sent"))
    removed = map(str, record.get("removed") or ())
    return tuple(name for name in removed if f"{json.dumps(name)}: " not in sent)


def _of_curl(text: str) -> URL:
    """Return the URL of a cURL command, with the data that ``--get`` adds to it."""
    try:
        words = shlex.split(text)[1:]
    except ValueError as error:
        msg = f"this cURL command is not complete: {error}"
        raise InvalidRequestError(msg) from None
    target = next((word for word in words if POLICY_PREFIX in word), None)
    if target is None:
        # Not the whole command, which may hold a password.
        raise not_a_request("this cURL command")
    added: list[str] = []
    for option, value in pairwise(words):
        if option in ("-d", "--data", "--data-raw", "--data-ascii"):
            added.append(value)
        elif option == "--data-urlencode":
            name, equals, content = value.partition("=")
            added.append(f"{name}={quote(content, safe='')}" if equals else quote(name, safe=""))
    is_get = any(w in ("-G", "--get") or re.fullmatch("-[a-zA-Z]*G[a-zA-Z]*", w) for w in words)
    if added and not is_get:
        msg = "this cURL command sends its data in a POST: add --get, or write it into the URL"
        raise InvalidRequestError(msg)
    joined = "&" if "?" in target else "?"
    return _url(target + (joined + "&".join(added) if added else ""))


def _of_line(text: str) -> RecordedRequest:
    """Return the request in a line of a log, or in a text that is nothing but a request."""
    if "&quot;" in text or "&#34;" in text:
        # Not html.unescape: it also replaces names without a semicolon, as in &region=.
        for escape, character in _ESCAPES.items():
            text = text.replace(escape, character)
        text = text.replace("&amp;", "&")
    if (logged := _LOGGED_URL.search(text)) is not None:
        return RecordedRequest(_url(logged[1]), "support log", parse_time(text, UTC))
    words = text.split()
    found = next((word for word in words if POLICY_PREFIX in word), text)
    if found not in words and words:
        raise not_a_request(found)
    url = _url(_unquoted(found))
    if len(words) <= 1:
        return RecordedRequest(url)
    is_cut = _REQUEST_LINE.search(text) is not None and _HTTP_VERSION.search(text) is None
    return RecordedRequest(url, "access log", parse_time(text), is_cut=is_cut)


def _unquoted(word: str) -> str:
    """Return a word without the quotes around it; a URL may end in ``'`` by itself."""
    quote_mark = word[:1] if word[:1] in ("'", '"') else '"'
    return word.removeprefix(quote_mark).removesuffix(quote_mark)


def _url(text: str) -> URL:
    try:
        return URL(text, encoded=True)
    except ValueError:
        msg = "this is not a URL"
        raise InvalidRequestError(msg) from None


# ---- times of records, and of dry runs
_ISO_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?\d*(?:Z|[+-]\d\d:?\d\d)?(?!\d)"
)
_CLF_TIME = re.compile(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}")
_HAPROXY_TIME = re.compile(r"\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d)(?:\.\d+)?\]")
_TIME_KEY = re.compile(r"time|date|msec|epoch|(?:^|_)ts$", re.IGNORECASE)
_FIRST, _LAST = 946_684_800, 4_102_444_800
"""The years 2000 and 2100 in seconds since 1970."""


def parse_moment(text: str) -> datetime:
    """Parse ``2026-12-24 22:00 Europe/Oslo`` or ``2026-12-24 22:00+01:00``.

    Raise ``ValueError`` for other text, and for a time without a zone.
    """
    written, _, zone = text.strip().rpartition(" ")
    named = zone in zone_names()
    try:
        found = datetime.fromisoformat(written.strip() if named else text.strip())
        if named and found.tzinfo is None:
            # By way of UTC, as a time that clocks skip is the one that they show then.
            found = found.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).astimezone(ZoneInfo(zone))
    except ValueError:
        msg = f"{text!r} is not a time: write 2026-12-24 22:00 Europe/Oslo, or +01:00 for the zone"
        raise ValueError(msg) from None
    if found.tzinfo is None:
        msg = f"{text!r} has no zone: write {text} Europe/Oslo, or an offset such as +01:00"
        raise ValueError(msg)
    return found


def record_time(record: Mapping[str, Any]) -> datetime | None:
    """Return the time of a JSON object: the first text with a time, or a number since 1970 in
    seconds, or in thousandths, millionths or billionths of them, of a key such as ``ts``.
    """
    values = [*leaves(record)]
    for _, value in values:
        if isinstance(value, str) and POLICY_PREFIX not in value:
            found = parse_time(value)
            if found is not None:
                return found
    return next((at for key, value in values if (at := _epoch_time(key, value)) is not None), None)


def _epoch_time(key: str, value: object) -> datetime | None:
    if not _TIME_KEY.search(key) or isinstance(value, bool):
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    while math.isfinite(seconds) and seconds > 10 * _LAST:
        seconds /= 1000
    return datetime.fromtimestamp(seconds, UTC) if _FIRST < seconds < _LAST else None


def leaves(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a JSON object, at any depth but in lists."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield from leaves(value)
        else:
            yield key, value


def parse_time(text: str, zone: Any = None) -> datetime | None:
    """Return the first time in a text; one without an offset is in ``zone``, or local.

    ``None`` for a text without a time.
    """
    text = text.partition(POLICY_PREFIX)[0]
    try:
        if (common := _CLF_TIME.search(text)) is not None:
            return datetime.strptime(common[0], "%d/%b/%Y:%H:%M:%S %z")
        if (proxy := _HAPROXY_TIME.search(text)) is not None:
            found = datetime.strptime(proxy[1], "%d/%b/%Y:%H:%M:%S")  # noqa: DTZ007 - local
        elif (iso := _ISO_TIME.search(text)) is not None:
            found = datetime.fromisoformat(iso[0].replace(",", "."))
        else:
            return None
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
