"""The files of records: their forms, compression and archives, read as blocks of lines."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, NamedTuple

from pexpolicy.audit.reader import file_and_rotated
from pexpolicy.replay.router_export import PATH_COLUMNS, json_lines

BLOCK_SIZE = 1 << 20
"""Bytes of lines that are replayed together."""
MAX_LINE = 1 << 18
"""Bytes of the longest line that is read; no node sends a URL that long."""
SNIFFED = 1 << 13
"""Bytes at the beginning of a file by which its form is found."""
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_TAR_MARK = slice(257, 262)
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)
_INFINITY_LOG = re.compile(rb'\bName=(?:"|&quot;)[a-z]+\.|\bsupport\.externalpolicy\b')
_HTTP_LINE = re.compile(rb" HTTP/\d|\"(?:request|request_uri|uri|url|path)\"\s*:")
_AUDIT_LINE = re.compile(rb'^[^"{]*\{(?=.*"timestamp"\s*:).*"event"\s*:\s*"[a-z]+"')


class Form(StrEnum):
    """What a file holds; it decides what a line without a policy request is."""

    AUDIT = "audit log"
    SUPPORT_LOG = "support log"
    ACCESS_LOG = "access log"
    URLS = "URLs"
    ROUTER = "export of a policy router"
    CASES = "cases"


class Block(NamedTuple):
    """Consecutive lines of a file. ``start`` is the number of the first one, from 1."""

    number: int
    file: str
    form: Form
    start: int
    content: bytes
    numbers: Sequence[int] = ()
    """The number of each line, where they are not consecutive."""


class Damage(NamedTuple):
    """A place in a file that cannot be read, and why."""

    file: str
    line: int
    text: str


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
        self.damage: list[Damage] = []
        self._done = 0
        self._file: IO[bytes] | None = None
        self._number = 0

    @property
    def position(self) -> int:
        """Return the number of stored bytes that have been read."""
        file = self._file
        return self._done + (file.tell() if file is not None and file.seekable() else 0)

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of all files."""
        for path, size in self._sizes.items():
            try:
                with path.open("rb") as file:
                    self._file = file
                    yield from self._blocks_of(str(path), file, size)
            except _DAMAGE as error:
                self._damaged(str(path), 0, error)
            finally:
                self._file = None
            self._done += size

    def _damaged(self, file: str, line: int, error: BaseException) -> None:
        if isinstance(error, OSError) and error.strerror:
            text = error.strerror
        else:
            text = f"the file is damaged, or ends early: {error}"
        self.damage.append(Damage(file, line, text))

    def _blocks_of(self, name: str, stored: IO[bytes], size: int) -> Iterator[Block]:
        content = _decompressed(stored)
        beginning = _peek(content, SNIFFED)
        if beginning[_TAR_MARK] == b"ustar":
            yield from self._archived(name, content)
            return
        if name.endswith(".toml"):
            yield from self._cases(name)
            return
        form = form_of(beginning)
        self.forms.append((name, form))
        if form is Form.ROUTER:
            text = io.TextIOWrapper(content, "utf-8-sig", errors="replace", newline="")
            try:
                yield from self._numbered(name, form, json_lines(text))
            except csv.Error as error:
                self._damaged(name, 0, error)
            finally:
                text.detach()
            return
        is_plain = content is stored and Path(name).is_file()
        yield from self._lines(name, form, content, size if is_plain else None)

    def _archived(self, name: str, content: IO[bytes]) -> Iterator[Block]:
        """Yield the blocks of the support logs in a snapshot of Infinity."""
        found = False
        with tarfile.open(fileobj=content, mode="r|") as archive:
            for member in archive:
                if "support" not in member.name.rpartition("/")[2] or not member.isfile():
                    continue
                if (file := archive.extractfile(member)) is not None:
                    found = True
                    inner = f"{name}:{member.name}"
                    self.forms.append((inner, Form.SUPPORT_LOG))
                    yield from self._lines(inner, Form.SUPPORT_LOG, _decompressed(file))
        if not found:
            self.damage.append(Damage(name, 0, "the archive has no file named support_log"))

    def _cases(self, name: str) -> Iterator[Block]:
        from pexpolicy.replay.case_files import case_lines  # noqa: PLC0415 - for this form only

        self.forms.append((name, Form.CASES))
        lines, problems = case_lines(Path(name))
        self.damage += [Damage(name, 0, problem) for problem in problems]
        yield from self._numbered(name, Form.CASES, lines)

    def _numbered(
        self, name: str, form: Form, lines: Iterable[tuple[int, dict[str, Any]]]
    ) -> Iterator[Block]:
        numbers: list[int] = []
        content: list[bytes] = []
        size = 0
        for number, line in lines:
            numbers.append(number)
            content.append(json.dumps(line).encode())
            size += len(content[-1])
            if size > BLOCK_SIZE:
                yield self._block(name, form, 0, b"\n".join(content), numbers)
                numbers, content, size = [], [], 0
        if content:
            yield self._block(name, form, 0, b"\n".join(content), numbers)

    def _lines(
        self, name: str, form: Form, file: IO[bytes], size: int | None = None
    ) -> Iterator[Block]:
        """Yield the lines of a file, of which ``size`` bytes are read."""
        line, rest = 1, b""
        left = sys.maxsize if size is None else size
        try:
            for piece in _pieces(file, left):
                content = piece
                left -= len(content)
                if left == 0 and not content.endswith(b"\n"):
                    content += file.readline(MAX_LINE + 1)
                content = rest + content
                end = content.rfind(b"\n") + 1
                # Of a line that is too long, what makes it unreadable is kept.
                rest = content[end:][: MAX_LINE + 1]
                if end:
                    yield self._block(name, form, line, content[:end])
                    line += content.count(b"\n", 0, end)
        except _DAMAGE as error:
            self._damaged(name, line, error)
        if rest:
            yield self._block(name, form, line, rest)

    def _block(
        self, name: str, form: Form, start: int, content: bytes, numbers: Sequence[int] = ()
    ) -> Block:
        block = Block(self._number, name, form, start, content, tuple(numbers))
        self._number += 1
        return block


def _pieces(file: IO[bytes], left: int) -> Iterator[bytes]:
    """Yield ``left`` bytes of a file in blocks; where it is damaged, first what precedes that."""
    block = bytearray()
    try:
        while left and (piece := file.read1(min(BLOCK_SIZE - len(block), left))):  # type: ignore[attr-defined]
            block += piece
            left -= len(piece)
            if len(block) == BLOCK_SIZE:
                yield bytes(block)
                block.clear()
    except _DAMAGE:
        if block:
            yield bytes(block)
        raise
    if block:
        yield bytes(block)


def form_of(beginning: bytes) -> Form:
    """Return the form of a file: that of the first line which shows one."""
    lines = beginning.split(b"\n")
    columns = {name.strip(b' "\r') for name in re.split(b"[,;]", lines[0].lower())}
    if len(columns) > 1 and not columns.isdisjoint(name.encode() for name in PATH_COLUMNS):
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


class _Decompressed(io.RawIOBase):
    """A decompressed file; a read of it ends where the file is damaged, and only the next fails."""

    def __init__(self, file: gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile) -> None:
        self._file = file

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return the number of bytes."""
        content = self._file.read1(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    """Return the content of a file, decompressed where it begins with the mark of a format."""
    while True:
        beginning = _peek(file, 8)
        if beginning.startswith(b"\x1f\x8b"):
            file = io.BufferedReader(_Decompressed(gzip.GzipFile(fileobj=file)))
        elif beginning.startswith(b"BZh"):
            file = io.BufferedReader(_Decompressed(bz2.BZ2File(file)))
        elif beginning.startswith(b"\xfd7zXZ\0"):
            file = io.BufferedReader(_Decompressed(lzma.LZMAFile(file)))  # noqa: SIM115 - as long as the file
        elif beginning.startswith(_ZSTANDARD):
            msg = "it is compressed with Zstandard: decompress it with zstd -d"
            raise OSError(msg)
        else:
            return file


def _peek(file: IO[bytes], size: int) -> bytes:
    beginning: bytes = file.peek(size)[:size]  # type: ignore[attr-defined]
    return beginning
