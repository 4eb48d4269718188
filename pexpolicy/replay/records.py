"""Records: the calls in files of logs, and how exactly each can be replayed.

The form of a file is found by itself.
"""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, NamedTuple

from multidict import MultiDict

from pexpolicy.audit.reader import Fault, RawLine, file_and_rotated, read
from pexpolicy.audit.redaction import Redaction
from pexpolicy.audit.targets import LINE_START
from pexpolicy.explain.request_forms import (
    HASH,
    NO_REQUEST,
    InvalidRequestError,
    NoRequestError,
    RecordedRequest,
    of_audit_line,
    read_request,
)
from pexpolicy.models.request import POLICY_PREFIX
from pexpolicy.replay.comparison import Side, of_record

MAX_LINE = 1 << 18
"""Bytes of the longest line that is read; no node sends a URL that long."""
SNIFFED = 1 << 13
"""Bytes at the beginning of a file by which its form is found."""
_GZIP = b"\x1f\x8b"
_INFINITY_LOG = re.compile(rb'\bName=(?:"|&quot;)[a-z]+\.|\bsupport\.externalpolicy\b')
_HTTP_LINE = re.compile(rb" HTTP/\d|\"(?:request|request_uri|uri|url|path)\"\s*:")
_AUDIT_LINE = re.compile(rb'^[^"{]*\{(?=.*"timestamp"\s*:).*"event"\s*:\s*"[a-z]+"')


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


class Call(NamedTuple):
    """A call that was recorded, at a line of a file."""

    place: str
    request: RecordedRequest
    reply: Side | None = None
    missing: Collection[str] = ()
    """Parameters that the record was written without, or with a part of their value."""
    hashed: Collection[str] = ()
    """Personal parameters: those with a hash as their value, and those that were left out."""


class Unusable(NamedTuple):
    """A record that is not replayed, and why."""

    place: str
    exactness: Exactness
    why: str


_HTTP_REQUEST = re.compile(
    r""""[A-Z]+ \S| HTTP/\d|\] "(?:[^"\\]|\\.)*" [1-5][0-9]{2} |"<BADREQ>"|^\{.*\}$"""
)
"""A request of an access log, also one that is none, such as a TLS handshake or a scan."""
_CUT = "the line is cut: parameters are missing at its end"


def of_audit(place: str, content: bytes) -> Iterator[Call | Unusable]:
    """Yield the call in a line of the audit, and the damage; lines of other events hold none."""
    before, start, rest = content.partition(LINE_START)
    if b'"' not in before:
        content = start + rest or content  # without the prefix that another log adds
    for found in read(RawLine(Path(), 0, content)):
        if isinstance(found, Fault):
            yield Unusable(place, Exactness.UNREADABLE, found.text)
        elif found.event["event"] == "refused":
            why = "the call was refused before any plugin was asked"
            yield Unusable(place, Exactness.NOT_REPLAYABLE, why)
        elif found.event["event"] == "decision":
            yield _call(place, of_audit_line, found.event)


def _call(place: str, read: Callable[[Any], RecordedRequest], record: object) -> Call | Unusable:
    """Return the call in a record, or why there is none."""
    try:
        request = read(record)
    except NoRequestError as error:
        return Unusable(place, Exactness.NOT_REPLAYABLE, error.why)
    except InvalidRequestError as error:
        return Unusable(place, Exactness.UNREADABLE, str(error))
    if request.is_cut:
        return Unusable(place, Exactness.NOT_REPLAYABLE, _CUT)
    values = (*request.params.items(), ("alias", request.alias)) if request.altered else ()
    hashed = {name for name, value in values if value.startswith(HASH)}
    # A line without hashes has all parameters but secrets and unknown ones.
    missing = MultiDict(dict.fromkeys(request.missing, "left out"))
    hashed.update(Redaction().request(request.endpoint, missing, "")[0])
    reply = None if request.line is None else of_record(request.line)
    return Call(place, request, reply, {*request.missing, *request.altered} - hashed, hashed)


def of_line(place: str, text: bytes, form: Form) -> Call | Unusable | None:
    """Return the call in a line of a log; ``None`` for a line of a support log about no call."""
    line = text.decode("utf-8", "replace")
    if POLICY_PREFIX in line:
        return _call(place, read_request, line)
    if form is Form.SUPPORT_LOG:
        is_call = "External policy request" in line
        return Unusable(place, Exactness.NOT_REPLAYABLE, _CUT) if is_call else None
    if form is Form.ACCESS_LOG and _HTTP_REQUEST.search(line):
        return Unusable(place, Exactness.NOT_REPLAYABLE, NO_REQUEST)
    return Unusable(place, Exactness.UNREADABLE, f"it is no record ({len(text)} bytes)")


class RecordFiles:
    """The records of some files, in order, of the files in folders, and of those that were rotated
    away from an audit file, unless that was before ``since``.
    """

    def __init__(self, paths: Iterable[Path], since: datetime | None = None) -> None:
        found = (one for path in paths for one in _files_of(path, since))
        # A server may append to its audit log meanwhile, also because of this replay.
        self._sizes = {path: path.stat().st_size for path in dict.fromkeys(found)}
        self.forms: list[dict[str, str]] = []
        """Each file that was begun, and its form."""
        self._done = 0

    @property
    def share(self) -> float:
        """Return the part of the stored bytes that has been read, 0 to 1."""
        return min(self._done / (sum(self._sizes.values()) or 1), 1.0)

    def records(self) -> Iterator[Call | Unusable]:
        """Yield the records of all files, and the damage to files."""
        for path, size in self._sizes.items():
            last, before = str(path), self._done
            try:
                with path.open("rb") as stored:
                    for record in self._records(path, stored, size):
                        last = record.place
                        if stored.seekable():
                            self._done = before + stored.tell()
                        yield record
            except (OSError, EOFError, zlib.error) as error:
                why = f"the file cannot be read, is damaged, or ends early: {error}"
                yield Unusable(last, Exactness.UNREADABLE, why)
            self._done = before + size

    def _records(self, path: Path, stored: IO[bytes], size: int) -> Iterator[Call | Unusable]:
        content: Any = stored
        if _peek(stored).startswith(_GZIP):
            content = gzip.GzipFile(fileobj=stored)
        form = form_of(_peek(content))
        self.forms.append({"file": str(path), "form": form})
        is_plain = content is stored and path.is_file()
        for place, line in _lines(path, content, size if is_plain else sys.maxsize):
            if form is Form.AUDIT:
                yield from of_audit(place, line)
            elif len(line) > MAX_LINE:
                yield Unusable(place, Exactness.UNREADABLE, "the line is too long")
            elif line and not line.startswith(b"#") and (record := of_line(place, line, form)):
                yield record


def _lines(path: Path, file: IO[bytes], left: int) -> Iterator[tuple[str, bytes]]:
    """Yield the places and lines of a file, the last of which begins in the ``left`` bytes.

    Of a line that is too long, what makes it unreadable is kept.
    """
    number = 0
    while left > 0 and (line := file.readline(MAX_LINE + 1)):
        number += 1
        left -= len(line)
        part = line
        while len(part) > MAX_LINE and not part.endswith(b"\n"):
            part = file.readline(MAX_LINE + 1)
            left -= len(part)
        yield f"{path}:{number}", line.strip()


def form_of(beginning: bytes) -> Form:
    """Return the form of a file: that of the first line which shows one."""
    for line in beginning.split(b"\n"):
        if _AUDIT_LINE.search(line):
            return Form.AUDIT
        if _INFINITY_LOG.search(line):
            return Form.SUPPORT_LOG
        if _HTTP_LINE.search(line):
            return Form.ACCESS_LOG
    return Form.URLS


def _files_of(path: Path, since: datetime | None) -> list[Path]:
    """Return a file, with those that were rotated away from an audit; or the files of a folder."""
    if path.is_dir():
        return sorted(one for one in path.rglob("*") if one.is_file())
    if not path.is_file():
        return [path]  # a pipe, of which nothing can be read twice
    with path.open("rb") as file:
        beginning = file.read(SNIFFED)
    if beginning and form_of(beginning) is not Form.AUDIT:
        return [path]
    begin = 0.0 if since is None else since.timestamp()
    return [one for one in file_and_rotated(path) if one == path or one.stat().st_mtime >= begin]


def _peek(file: Any) -> bytes:
    beginning: bytes = file.peek(SNIFFED)[:SNIFFED]
    return beginning
