"""The audit file and those rotated from it, recognized by their first line whatever their name."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from pexpolicy.audit.reader import file_and_rotated, open_file

HEAD = 1 << 16
"""Bytes in which the first line of a file has to end."""
CHUNK = 1 << 22
"""Bytes that are read at once."""
MAX_LINE = 1 << 26
"""A longer line is damage."""
UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading a file raises that was removed, or is compressed and damaged or not yet complete."""


@dataclass(frozen=True, slots=True)
class AuditFile:
    """A file; ``head`` identifies its content, also after it was renamed or compressed."""

    path: Path
    head: bytes
    size: int
    """Bytes on the disk."""
    mtime_ns: int

    @property
    def is_compressed(self) -> bool:
        """Whether positions are those of the decompressed text."""
        return self.path.suffix == ".gz"

    @property
    def version(self) -> str:
        """Changes with the content of a compressed file."""
        return f"{self.size}:{self.mtime_ns}"


class AuditFiles:
    """Finds the files of an audit log, the oldest first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem = ""
        """Why the files, or one of them, could not be read by the last scan."""
        self._listed: tuple[object, list[Path]] = (None, [])
        self._compressed: dict[tuple[Path, str], bytes] = {}

    def scan(self) -> list[AuditFile]:
        """Return the files whose first line is complete, without those that vanish meanwhile."""
        found: dict[bytes, AuditFile] = {}
        self.problem = ""
        for path in self._paths():
            try:
                file = self._file(path)
            except PermissionError as error:
                self.problem = f"{path} cannot be read: {error.strerror}"
                continue
            except UNREADABLE:
                continue
            if file is None:
                continue
            # While logrotate compresses a file, both are there; a copy lacks the newest lines.
            known = found.get(file.head)
            if known is None or _rank(file) > _rank(known):
                found[file.head] = file
        return list(found.values())

    def _paths(self) -> list[Path]:
        # Sorting reads all files, so it is done only when files come and go.
        try:
            with os.scandir(self._path.parent) as entries:
                key = sorted(
                    (one.name, one.inode())
                    for one in entries
                    if one.name.startswith(self._path.name)
                )
            if key != self._listed[0]:
                self._listed = key, file_and_rotated(self._path)
        except OSError as error:
            self.problem = f"{self._path.parent} cannot be read: {error.strerror}"
            return []
        return self._listed[1]

    def _file(self, path: Path) -> AuditFile | None:
        status = path.stat()
        file = AuditFile(path, b"", status.st_size, status.st_mtime_ns)
        head = self._compressed.get((path, file.version), b"")
        if not head:
            with open_file(path) as opened:
                head = _head(opened.read(HEAD))
            if file.is_compressed:
                self._compressed[path, file.version] = head
        return replace(file, head=head) if head else None


def _rank(file: AuditFile) -> tuple[bool, int]:
    """Return what is greater for the better one of two files with the same lines."""
    return not file.is_compressed, file.size


def _head(content: bytes) -> bytes:
    """Return the identity of a file that begins with ``content``; empty without a whole line."""
    *lines, _ = content.split(b"\n")
    first = next((line for line in lines if line.strip(b" ")), b"")
    return hashlib.blake2b(first, digest_size=16).digest() if first else b""


class DamagedFileError(Exception):
    """A compressed file cannot be read any further."""


class ChunkReader:
    """Reads audit files in chunks of whole lines; one that has not changed stays open between them:
    a compressed one would be decompressed from its beginning each time.
    """

    def __init__(self) -> None:
        self._opened: tuple[Path, str] | None = None
        self._stream: IO[bytes] | None = None

    def read(self, file: AuditFile, position: int) -> bytes:
        """Return whole lines from a position on; raise ``OSError``, ``DamagedFileError``."""
        wanted = file.path, file.version
        if self._stream is None or self._opened != wanted:
            self.close()
            self._stream, self._opened = open_file(file.path), wanted
        try:
            return _whole_lines(self._stream, position)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self.close()
            raise DamagedFileError from None

    def close(self) -> None:
        """Close the file that was kept open."""
        if self._stream is not None:
            self._stream.close()
        self._stream = self._opened = None


def _whole_lines(stream: IO[bytes], position: int) -> bytes:
    stream.seek(position)
    content = stream.read(CHUNK)
    if len(content) == CHUNK and not content.endswith(b"\n"):
        content += stream.readline(MAX_LINE)
        if len(content) >= MAX_LINE:
            return content
    return content[: content.rfind(b"\n") + 1]
