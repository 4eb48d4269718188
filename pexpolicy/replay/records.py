"""Records: the call in a line of a log, and how exactly it can be replayed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
from multidict import MultiDict

from pexpolicy.audit.reader import CorruptLine, RawLine, read
from pexpolicy.audit.torn_lines import LINE_START
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.request_forms import (
    InvalidRequestError,
    RecordedRequest,
    endpoint_of,
    read_request,
)
from pexpolicy.models.request import POLICY_PREFIX, Params, by_prefix, header_name, parameters_of
from pexpolicy.models.rules import Privacy
from pexpolicy.replay.comparison import Side, of_record


class Exactness(StrEnum):
    """How exactly a record can be replayed."""

    EXACT = "exact"
    """The request is known in all that the configurations read of it."""
    PARTIAL = "partial"
    """A parameter is missing that a configuration reads; it is replayed without it."""
    NOT_REPLAYABLE = "not_replayable"
    """There is no request to ask, such as one with hashed aliases."""
    UNREADABLE = "unreadable"
    """The line is damaged, or is no record at all."""


class Form(StrEnum):
    """What a file holds; it decides what a line without a policy request is."""

    AUDIT = "audit log"
    SUPPORT_LOG = "support log"
    ACCESS_LOG = "access log"
    URLS = "URLs"
    ROUTER = "export of a policy router"


class Call(NamedTuple):
    """A call that was recorded."""

    place: str
    """File and line."""
    endpoint: str
    alias: str
    params: Params
    at: float | None = None
    """Seconds since 1970."""
    peer: str | None = None
    decision_id: str = ""
    reply: Side | None = None
    missing: Collection[str] = ()
    """Parameters that the record was written without, or with a part of their value."""
    hashed: Collection[str] = ()
    """Personal parameters: those with a hash as their value, and those that were left out."""

    @property
    def url(self) -> str:
        """Return the path with the query."""
        path = ENDPOINTS[self.endpoint].path
        return f"{path}{quote(self.alias, safe='')}?{urlencode([*self.params.items()])}"


class Unusable(NamedTuple):
    """A record that is not replayed, and why."""

    place: str
    exactness: Exactness
    why: str


class _AuditLine(msgspec.Struct, gc=False):
    timestamp: datetime
    request: dict[str, str | list[str]]
    decision_id: str = ""
    endpoint: str = ""
    peer: str | None = None
    decided_by: str | None = None
    reason: str | None = None
    action: str = "continue"
    status: int = 200
    sent: Any = None
    removed: tuple[str, ...] = ()
    redaction_error: str | None = None


_decode_line = msgspec.json.Decoder(_AuditLine).decode
_HASH = "hash:"
_HTTP_REQUEST = re.compile(
    r""""[A-Z]+ \S| HTTP/\d|\] "(?:[^"\\]|\\.)*" [1-5][0-9]{2} |"<BADREQ>"|^\{.*\}$"""
)
"""A request of an access log, also one that is none, such as a TLS handshake or a scan."""
_YEARS = (1970, 9000)
_CUT = "the line is cut: parameters are missing at its end"
NO_REQUEST = "its path is no policy request"


def of_audit(place: str, content: bytes) -> Iterator[Call | Unusable]:
    """Yield the call in a line of the audit, and the damage; lines of other events hold none."""
    before, start, rest = content.partition(LINE_START)
    if b'"' not in before:
        content = start + rest or content  # without the prefix that another log adds
    for found in read(RawLine(Path(), 0, content)):
        if isinstance(found, CorruptLine):
            yield Unusable(place, Exactness.UNREADABLE, found.text)
        elif found.event["event"] == "refused":
            why = "the call was refused before any plugin was asked"
            yield Unusable(place, Exactness.NOT_REPLAYABLE, why)
        elif found.event["event"] == "decision":
            try:
                yield _of_decision(place, _decode_line(found.raw.content))
            except (msgspec.DecodeError, ValueError) as error:
                yield Unusable(place, Exactness.UNREADABLE, str(error))


def _of_decision(place: str, line: _AuditLine) -> Call | Unusable:
    endpoint, written, alias = line.endpoint, line.request, ""
    if endpoint not in ENDPOINTS or line.redaction_error:
        return Unusable(place, Exactness.NOT_REPLAYABLE, "it was written without its request")
    if ENDPOINTS[endpoint].path.endswith("/"):
        called = written.pop("alias", "")
        if not called or not isinstance(called, str):
            why = "it was written without its alias: [privacy] personal is dropped"
            return Unusable(place, Exactness.NOT_REPLAYABLE, why)
        alias = called
    pairs = [
        (name, one)
        for name, value in written.items()
        for one in (value if isinstance(value, list) else (value,))
    ]
    # Other names that were removed are those of fields of the reply.
    sent = msgspec.json.encode(line.sent)
    removed = [name for name in line.removed if msgspec.json.encode(name) + b":" not in sent]
    personal = {name for name in removed if _is_personal(endpoint, name)}
    missing = {name for name, one in pairs if "***" in one and not one.startswith(_HASH)}
    hashed = {name for name, one in (*pairs, ("alias", alias)) if one.startswith(_HASH)}
    return Call(
        *(place, endpoint, alias, MultiDict(pairs)),
        at=_seconds(line.timestamp),
        peer=line.peer,
        decision_id=line.decision_id,
        reply=of_record(endpoint, line.action, line.status, line.sent, line.removed)._replace(
            decided_by=line.decided_by, reason=line.reason
        ),
        missing={*removed, *missing} - personal,
        hashed=hashed | personal,
    )


def _is_personal(endpoint: str, name: str) -> bool:
    """Return whether a parameter is one that ``[privacy] personal`` hashes or leaves out."""
    return any(
        name.startswith(parameter.wire)
        if parameter.read is by_prefix
        else header_name(name) == header_name(parameter.wire)
        for parameter in parameters_of(ENDPOINTS[endpoint].request).values()
        if parameter.privacy is Privacy.PERSONAL
    )


def _seconds(at: datetime) -> float:
    """Return seconds since 1970; raise ``ValueError`` for a year in which no call was made."""
    if not _YEARS[0] <= at.year <= _YEARS[1]:
        raise ValueError("its time is out of range")
    return at.timestamp()


def of_line(place: str, text: bytes, form: Form) -> Call | Unusable | None:
    """Return the call in a line of a log; ``None`` for a line of a support log about no call."""
    line = text.decode("utf-8", "replace")
    if POLICY_PREFIX not in line:
        if form is Form.SUPPORT_LOG:
            is_call = "External policy request" in line
            return Unusable(place, Exactness.NOT_REPLAYABLE, _CUT) if is_call else None
        if form is Form.ACCESS_LOG and _HTTP_REQUEST.search(line):
            return Unusable(place, Exactness.NOT_REPLAYABLE, NO_REQUEST)
        return Unusable(place, Exactness.UNREADABLE, f"it is no record ({len(text)} bytes)")
    try:
        request = read_request(line)
        if request.is_cut or _is_cut(line):
            return Unusable(place, Exactness.NOT_REPLAYABLE, _CUT)
        return of_request(place, request)
    except InvalidRequestError as error:
        # A whole line, about another path.
        known = "is not one of the paths" in str(error) or "/policy/v1 twice" in str(error)
        kind = Exactness.NOT_REPLAYABLE if known else Exactness.UNREADABLE
        return Unusable(place, kind, NO_REQUEST if known else str(error).partition("\n")[0])


def _is_cut(line: str) -> bool:
    """Return whether the value of ``URL=`` has no end."""
    for mark, end in (('URL="', '"'), ("URL=&quot;", "&quot;")):
        _, found, value = line.partition(mark)
        if found:
            return end not in value
    return False


def of_request(place: str, request: RecordedRequest) -> Call:
    """Return the call of a request; raise ``InvalidRequestError`` for another path."""
    name, alias, _ = endpoint_of(request.url)
    at = None if request.at is None else _seconds(request.at)
    lacks = request.missing + request.altered
    return Call(place, name, alias, request.url.query, at, request.peer, missing=lacks)
