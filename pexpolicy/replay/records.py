"""Records: the call in a line of a log, and how exactly it can be replayed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
from multidict import MultiDict

from pexpolicy.audit.reader import CorruptLine, RawLine, Record, read
from pexpolicy.audit.torn_lines import LINE_START
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.explain.request_forms import (
    InvalidRequestError,
    RecordedRequest,
    endpoint_of,
    of_audit_line,
    parse_time,
    read_request,
)
from pexpolicy.models.request import POLICY_PREFIX, Params, by_prefix, header_name, parameters_of
from pexpolicy.models.rules import Privacy
from pexpolicy.replay.record_files import MAX_LINE, Block, Form
from pexpolicy.replay.replies import RecordedReply, foreign_reply


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


class Call(NamedTuple):
    """A call that was recorded."""

    line: int
    endpoint: str
    alias: str
    params: Params
    at: float | None = None
    """Seconds since 1970."""
    peer: str | None = None
    decision_id: str = ""
    reply: RecordedReply | None = None
    missing: tuple[str, ...] = ()
    """Parameters that the record was written without, or with a part of their value."""
    hashed: tuple[str, ...] = ()
    """Personal parameters: those with a hash as their value, and those that were left out."""
    key: bytes = b""
    """Equal for calls with equal requests; empty where that is not known."""

    @property
    def url(self) -> str:
        """Return the path with the query."""
        path = ENDPOINTS[self.endpoint].path
        query = urlencode([*self.params.items()])
        return f"{path}{quote(self.alias, safe='')}?{query}"


class Unusable(NamedTuple):
    """A record that is not replayed, and why."""

    line: int
    exactness: Exactness
    why: str


class _AuditLine(msgspec.Struct, gc=False):
    event: str
    timestamp: datetime
    decision_id: str = ""
    endpoint: str = ""
    peer: str | None = None
    request: msgspec.Raw = msgspec.Raw(b"{}")
    decided_by: str | None = None
    reason: str | None = None
    action: str = "continue"
    status: int = 200
    sent: msgspec.Raw = msgspec.Raw(b"null")
    removed: tuple[str, ...] = ()
    redaction_error: str | None = None


_decode_line = msgspec.json.Decoder(_AuditLine).decode
_decode_request = msgspec.json.Decoder(dict[str, str | list[str]]).decode
_WITH_ALIAS = frozenset(name for name, e in ENDPOINTS.items() if e.path.endswith("/"))
_HASH = "hash:"
_NO_ALIAS = "it was written without its alias: [privacy] personal is dropped"
_REFUSED = "the call was refused before any plugin was asked"
_NO_REQUEST = "its path is no policy request"
_LOGGED_REQUEST = "External policy request"
_HTTP_REQUEST = re.compile(
    r'''"[A-Z]+ \S| HTTP/\d|\] "(?:[^"\\]|\\.)*" [1-5][0-9]{2} |"<BADREQ>"'''
)
"""A request of an access log, also one that is none, such as a TLS handshake or a scan."""
_STATUS = re.compile(r"[0-9]{1,3}")
_YEARS = (1970, 9000)
_CUT = "the line is cut: parameters are missing at its end"


def records(block: Block) -> Iterator[Call | Unusable]:
    """Yield the records in a block of lines; other lines of a log are none."""
    for number, content in enumerate(block.content.removesuffix(b"\n").split(b"\n"), block.start):
        if block.form is Form.AUDIT:
            yield from _audit(number, content)
        elif block.form in (Form.ROUTER, Form.CASES):
            yield _of_object(msgspec.json.decode(content))
        elif len(text := content.strip()) > MAX_LINE:
            yield Unusable(number, Exactness.UNREADABLE, "the line is too long")
        elif text and not text.startswith(b"#"):
            yield from _of_line(number, text, block.form)


def _audit(number: int, content: bytes) -> Iterator[Call | Unusable]:
    try:
        line = _decode_line(content)
        if line.event == "decision" and line.endpoint in ENDPOINTS and not line.redaction_error:
            yield _of_audit(number, line)
            return
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # A line of another event, one after the prefix of a log, or a damaged one.
    before, start, rest = content.partition(LINE_START)
    if start and before and b'"' not in before:
        content = start + rest
    for found in read(RawLine(Path(), number, content.rstrip(b"\r"))):
        if isinstance(found, CorruptLine):
            yield Unusable(number, Exactness.UNREADABLE, found.text)
        elif found.event["event"] == "refused":
            yield Unusable(number, Exactness.NOT_REPLAYABLE, _REFUSED)
        elif found.event["event"] == "decision":
            yield _of_event(number, found)


def _of_event(number: int, found: Record) -> Call | Unusable:
    try:
        line = _decode_line(found.raw.content)
        if line.endpoint in ENDPOINTS and not line.redaction_error:
            return _of_audit(number, line)
        return _of_request(number, of_audit_line(found.event))
    except InvalidRequestError as error:
        return Unusable(number, Exactness.NOT_REPLAYABLE, str(error))
    except (msgspec.DecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
        return Unusable(number, Exactness.UNREADABLE, str(error).partition("\n")[0])


def _of_audit(number: int, line: _AuditLine) -> Call | Unusable:
    written = _decode_request(line.request)
    msgspec.json.decode(line.sent)  # raises for a damaged one
    alias = ""
    if line.endpoint in _WITH_ALIAS:
        called = written.pop("alias", "")
        if not called or not isinstance(called, str):
            return Unusable(number, Exactness.NOT_REPLAYABLE, _NO_ALIAS)
        alias = called
    pairs = [
        (name, one)
        for name, value in written.items()
        for one in (value if isinstance(value, list) else (value,))
    ]
    # Other names are those of fields of the reply.
    removed = [n for n in line.removed if msgspec.json.encode(n) + b":" not in bytes(line.sent)]
    personal = [name for name in removed if _is_personal(line.endpoint, name)]
    missing = [name for name in removed if name not in personal]
    missing += [name for name, one in pairs if "***" in one and not one.startswith(_HASH)]
    hashed = personal + [name for name, one in (*pairs, ("alias", alias)) if one.startswith(_HASH)]
    at = _seconds(line.timestamp)
    if at is None:
        return Unusable(number, Exactness.UNREADABLE, "its time is out of range")
    told = (line.removed, line.decided_by, line.reason)
    reply = RecordedReply(line.action, line.status, line.sent, *told, is_ours=True)
    origin = (at, line.peer, line.decision_id)
    lacks = (tuple(missing), tuple(hashed))
    key = bytes(line.request)
    return Call(number, line.endpoint, alias, MultiDict(pairs), *origin, reply, *lacks, key)


def _is_personal(endpoint: str, name: str) -> bool:
    """Return whether a parameter is one that ``[privacy] personal`` hashes or leaves out."""
    return any(
        name.startswith(parameter.wire)
        if parameter.read is by_prefix
        else header_name(name) == header_name(parameter.wire)
        for parameter in parameters_of(ENDPOINTS[endpoint].request).values()
        if parameter.privacy is Privacy.PERSONAL
    )


def _seconds(at: datetime | None) -> float | None:
    """Return seconds since 1970; ``None`` for a year in which no call was made."""
    return at.timestamp() if at is not None and _YEARS[0] <= at.year <= _YEARS[1] else None


def _of_line(number: int, text: bytes, form: Form) -> Iterator[Call | Unusable]:
    line = text.decode("utf-8", "replace")
    if POLICY_PREFIX not in line:
        if form is Form.SUPPORT_LOG:
            if _LOGGED_REQUEST in line:
                yield Unusable(number, Exactness.NOT_REPLAYABLE, _CUT)
        elif form is Form.ACCESS_LOG and _is_http(line):
            yield Unusable(number, Exactness.NOT_REPLAYABLE, _NO_REQUEST)
        else:
            yield Unusable(number, Exactness.UNREADABLE, f"it is no record ({len(text)} bytes)")
        return
    try:
        request = read_request(line)
        if request.is_cut or _is_cut(line):
            yield Unusable(number, Exactness.NOT_REPLAYABLE, _CUT)
        else:
            yield _of_request(number, request)
    except InvalidRequestError as error:
        known = "is not one of the paths" in str(error) or "/policy/v1 twice" in str(error)
        why = _NO_REQUEST if known else str(error).partition("\n")[0]
        kind = Exactness.NOT_REPLAYABLE if known else Exactness.UNREADABLE
        yield Unusable(number, kind, why)


def _is_http(line: str) -> bool:
    """Return whether a line of an access log is whole enough to tell that it is another request."""
    if not line.startswith("{"):
        return _HTTP_REQUEST.search(line) is not None
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


def _is_cut(line: str) -> bool:
    """Return whether the value of ``URL=`` has no end."""
    for mark, end in (('URL="', '"'), ("URL=&quot;", "&quot;")):
        _, found, value = line.partition(mark)
        if found:
            return end not in value
    return False


def _of_request(number: int, request: RecordedRequest) -> Call:
    name, alias, _ = endpoint_of(request.url)
    return Call(
        number,
        name,
        alias,
        request.url.query,
        _seconds(request.at),
        request.peer,
        missing=request.missing + request.altered,
        key=request.url.raw_path_qs.encode(),
    )


def _of_object(record: dict[str, Any]) -> Call | Unusable:
    """Return the record of a row or a case."""
    number = record["line"]
    if "cut" in record:
        return Unusable(number, Exactness.NOT_REPLAYABLE, record["cut"])
    try:
        found = _of_request(number, read_request(record["url"]))
    except InvalidRequestError:
        return Unusable(number, Exactness.NOT_REPLAYABLE, _NO_REQUEST)
    reply, status = None, str(record.get("status") or "200")
    if isinstance(body := record.get("body"), dict):
        code = int(status) if _STATUS.fullmatch(status) else 200
        reply = foreign_reply(found.endpoint, code, body)
    at = _seconds(parse_time(record.get("time") or ""))
    return found._replace(at=at, peer=record.get("peer"), reply=reply)
