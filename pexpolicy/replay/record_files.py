"""The files of records: each form is found by itself, and read as blocks of lines."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, NamedTuple, cast
from urllib.parse import quote, urlencode

from pexpolicy.audit.reader import file_and_rotated
from pexpolicy.testing.cases import CasesError, load_cases
from pexpolicy.testing.requests import url_of

BLOCK_SIZE = 1 << 20
"""Bytes of lines that are replayed together."""
MAX_LINE = 1 << 18
"""Bytes of the longest line that is read; no node sends a URL that long."""
MAX_CELL = 1 << 20
"""Characters of a cell; replies may be longer than what the module ``csv`` reads by default."""
SNIFFED = 1 << 13
"""Bytes at the beginning of a file by which its form is found."""
_GZIP = b"\x1f\x8b"
_PACKED = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "Zstandard", b"PK\3\4": "zip"}
_TAR_MARK = slice(257, 262)
_DAMAGE = (OSError, EOFError, zlib.error, csv.Error)
_INFINITY_LOG = re.compile(rb'\bName=(?:"|&quot;)[a-z]+\.|\bsupport\.externalpolicy\b')
_HTTP_LINE = re.compile(rb" HTTP/\d|\"(?:request|request_uri|uri|url|path)\"\s*:")
_AUDIT_LINE = re.compile(rb'^[^"{]*\{(?=.*"timestamp"\s*:).*"event"\s*:\s*"[a-z]+"')
_PATHS = ("request_path", "path")
_PARAMETERS = ("request_params", "params", "parameters")
_RESPONSES = ("response_body", "response", "override_response")
_STATUSES = ("response_status", "status")
_TIMES = ("created_at", "timestamp", "time")
_SOURCES = ("source_host", "source")


class Form(StrEnum):
    """What a file holds; it decides what a line without a policy request is."""

    AUDIT = "audit log"
    SUPPORT_LOG = "support log"
    ACCESS_LOG = "access log"
    URLS = "URLs"
    ROUTER = "export of a policy router"
    CASES = "cases"


class Block(NamedTuple):
    """Consecutive lines of a file. ``start`` is the number of the first one, from 1.

    The rows of a router and cases are JSON objects with ``line``, ``url``, ``time``, ``peer``,
    ``status`` and ``body``, what there is of them.
    """

    number: int
    file: str
    form: Form
    start: int
    content: bytes


class RecordFiles:
    """The blocks of some files, in order. ``position`` is the number of bytes read so far.

    ``with_rotated`` adds the files that were rotated away from an audit file, and opens folders.
    """

    def __init__(self, paths: Iterable[Path], *, with_rotated: bool = True) -> None:
        self.paths = _with_rotated(paths) if with_rotated else list(paths)
        # A server may append to its audit log meanwhile, also because of this replay.
        self._sizes = {path: path.stat().st_size for path in self.paths}
        self.size = sum(self._sizes.values())
        """Bytes of all files, as they are stored."""
        self.forms: list[tuple[str, Form]] = []
        """Each file that was begun, and its form."""
        self.damage: list[tuple[str, str]] = []
        """Each place that cannot be read, and why."""
        self._done = 0
        self._file: IO[bytes] | None = None
        self._line = 0

    @property
    def position(self) -> int:
        """Return the number of stored bytes that have been read."""
        file = self._file
        return self._done + (file.tell() if file is not None and file.seekable() else 0)

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of all files."""
        number = 0
        for path, size in self._sizes.items():
            self._line = 0
            try:
                with path.open("rb") as file:
                    self._file = file
                    for start, content in self._contents(path, file, size):
                        yield Block(number, str(path), self.forms[-1][1], start, content)
                        number += 1
            except _DAMAGE as error:
                text = f"the file is damaged, or ends early: {error}"
                if isinstance(error, OSError) and error.strerror:
                    text = error.strerror
                self.damage.append((f"{path}:{self._line}" if self._line else str(path), text))
            finally:
                self._file = None
            self._done += size

    def _contents(self, path: Path, stored: IO[bytes], size: int) -> Iterator[tuple[int, bytes]]:
        """Yield lines of a file with the number of the first."""
        name = str(path)
        if path.suffix == ".toml":
            self.forms.append((name, Form.CASES))
            yield from _joined(self._cases(path))
            return
        content = stored
        if _peek(stored).startswith(_GZIP):
            content = cast("IO[bytes]", gzip.GzipFile(fileobj=stored))
        beginning = _peek(content)
        packed = next((kind for mark, kind in _PACKED.items() if beginning.startswith(mark)), "")
        if packed or beginning[_TAR_MARK] == b"ustar":
            text = f"it is a file of {packed or 'tar'}: unpack it; plain files and gzip are read"
            self.damage.append((name, text))
            return
        form = form_of(beginning)
        self.forms.append((name, form))
        if form is Form.ROUTER:
            table = io.TextIOWrapper(content, "utf-8-sig", errors="replace", newline="")
            try:
                yield from _joined(router_rows(table))
            finally:
                table.detach()
            return
        is_plain = content is stored and path.is_file()
        yield from self._lines(content, size if is_plain else sys.maxsize)

    def _cases(self, path: Path) -> Iterator[dict[str, Any]]:
        """Yield a record for each case of ``pexpolicy test``."""
        try:
            cases = load_cases(path)
        except CasesError as error:
            self.damage += [(str(path), problem) for problem in error.problems]
            return
        for number, case in enumerate(cases, 1):
            url = case.url if case.request is None else str(url_of(case.request))
            time = None if case.at is None else case.at.isoformat()
            yield {"line": number, "url": url, "time": time, "peer": case.peer}

    def _lines(self, file: IO[bytes], left: int) -> Iterator[tuple[int, bytes]]:
        """Yield ``left`` bytes of a file, up to the end of a line, in blocks of whole lines."""
        self._line, rest = 1, b""
        damage = None
        try:
            while left and (piece := file.read1(min(BLOCK_SIZE, left))):  # type: ignore[attr-defined]
                left -= len(piece)
                if left == 0 and not piece.endswith(b"\n"):
                    piece += file.readline(MAX_LINE + 1)
                content = rest + piece
                end = content.rfind(b"\n") + 1
                # Of a line that is too long, what makes it unreadable is kept.
                rest = content[end:][: MAX_LINE + 1]
                if end:
                    yield self._line, content[:end]
                    self._line += content.count(b"\n", 0, end)
        except _DAMAGE as error:
            damage = error
        if rest:
            yield self._line, rest
        if damage is not None:
            raise damage


def _joined(records: Iterable[dict[str, Any]]) -> Iterator[tuple[int, bytes]]:
    """Yield records as lines of JSON."""
    lines: list[bytes] = []
    size = 0
    damage = None
    try:
        for record in records:
            lines.append(json.dumps(record).encode())
            size += len(lines[-1])
            if size > BLOCK_SIZE:
                yield 1, b"\n".join(lines)
                lines, size = [], 0
    except _DAMAGE as error:
        damage = error
    if lines:
        yield 1, b"\n".join(lines)
    if damage is not None:
        raise damage


def router_rows(text: IO[str]) -> Iterator[dict[str, Any]]:
    """Yield each row of a policy router's table of requests as a record; raise ``csv.Error``."""
    header = text.readline()
    delimiter = ";" if header.count(";") > header.count(",") else ","
    columns = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter))]
    reader = csv.reader(text, delimiter=delimiter)
    line = 2
    while (cells := _next_row(reader)) is not None:
        if cells:
            yield {"line": line, **_router_record(dict(zip(columns, cells, strict=False)))}
        line = reader.line_num + 2


def _next_row(reader: Iterator[list[str]]) -> list[str] | None:
    """Return the next row, whose cells may have ``MAX_CELL`` characters; ``None`` at the end."""
    # The module has one limit for all readers of the process.
    others = csv.field_size_limit(MAX_CELL)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(others)


def _router_record(row: dict[str, str]) -> dict[str, Any]:
    def first(names: tuple[str, ...]) -> str:
        return next((row[name].strip() for name in names if row.get(name)), "")

    parameters = _decoded(first(_PARAMETERS))
    path = quote(first(_PATHS), safe="/%:@+?=&;,~")
    record: dict[str, Any] = {
        "url": path,
        "time": first(_TIMES),
        "peer": first(_SOURCES) or None,
        "status": first(_STATUSES),
        "body": _decoded(first(_RESPONSES)),
    }
    if isinstance(parameters, dict):
        record["url"] = f"{path}?{urlencode(parameters, doseq=True)}"
    elif "?" not in path:
        record["cut"] = "the row has no parameters"
    return record


def _decoded(cell: str) -> Any:
    """Return a cell as JSON, or as the text of a Python value, which such servers store too.

    ``None`` for any other, and for a value that JSON does not have.
    """
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(cell)
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        return value
    return None


def form_of(beginning: bytes) -> Form:
    """Return the form of a file: that of the first line which shows one."""
    lines = beginning.split(b"\n")
    columns = {name.strip(b' "\r') for name in re.split(b"[,;]", lines[0].lower())}
    if len(columns) > 1 and not columns.isdisjoint(name.encode() for name in _PATHS):
        return Form.ROUTER
    for line in lines:
        if _AUDIT_LINE.search(line):
            return Form.AUDIT
        if _INFINITY_LOG.search(line):
            return Form.SUPPORT_LOG
        if _HTTP_LINE.search(line):
            return Form.ACCESS_LOG
    return Form.URLS


def _with_rotated(paths: Iterable[Path]) -> list[Path]:
    """Return the files; those rotated away from an audit file too, and the files in folders."""
    found: dict[tuple[int, int], Path] = {}
    for path in paths:
        for one in _files_of(path):
            known = one.stat()
            found.setdefault((known.st_dev, known.st_ino), one)
    return list(found.values())


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(one for one in path.rglob("*") if one.is_file())
    if not path.is_file():
        return [path]  # a pipe, of which nothing can be read twice
    with path.open("rb") as file:
        is_audit = path.suffix != ".toml" and form_of(file.read(SNIFFED)) is Form.AUDIT
    return file_and_rotated(path) if is_audit else [path]


def _peek(file: IO[bytes]) -> bytes:
    beginning: bytes = file.peek(SNIFFED)[:SNIFFED]  # type: ignore[attr-defined]
    return beginning
