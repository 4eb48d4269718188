"""The audit file and those rotated from it, recognized by their first line whatever their name."""

from __future__ import annotations

import gzip
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pexpolicy.audit.reader import file_and_rotated

HEAD = 1 << 16
"""Bytes in which the first line of a file has to end."""
CHUNK = 1 << 22
"""Bytes that are read at once."""
MAX_LINE = 1 << 26
"""A longer line is damage."""


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
        self._listed: tuple[object, list[Path]] = (None, [])
        self._compressed: dict[tuple[Path, str], bytes] = {}

    def scan(self) -> list[AuditFile]:
        """Return the files whose first line is complete, without those that vanish meanwhile."""
        found: dict[bytes, AuditFile] = {}
        for path in self._paths():
            with suppress(OSError, EOFError):
                file = self._file(path)
                if file is not None:
                    # While logrotate compresses a file, both are there.
                    found.setdefault(file.head, file)
        return list(found.values())

    def _paths(self) -> list[Path]:
        # Sorting reads all files, so it is done only when files come and go.
        with suppress(OSError):
            with os.scandir(self._path.parent) as entries:
                key = sorted(
                    (one.name, one.inode())
                    for one in entries
                    if one.name.startswith(self._path.name)
                )
            if key != self._listed[0]:
                self._listed = key, file_and_rotated(self._path)
            return self._listed[1]
        return []

    def _file(self, path: Path) -> AuditFile | None:
        status = path.stat()
        file = AuditFile(path, b"", status.st_size, status.st_mtime_ns)
        if not file.is_compressed:
            with path.open("rb", buffering=0) as opened:
                head = _head(opened.read(HEAD))
        elif (head := self._compressed.get((path, file.version), b"")) == b"":
            with gzip.open(path) as unpacked:
                head = _head(unpacked.read(HEAD))
            self._compressed[path, file.version] = head
        return AuditFile(path, head, file.size, file.mtime_ns) if head else None


def _head(content: bytes) -> bytes:
    """Return the identity of a file that begins with ``content``; empty without a whole line."""
    *lines, _ = content.split(b"\n")
    first = next((line for line in lines if line.strip(b" ")), b"")
    return hashlib.blake2b(first, digest_size=16).digest() if first else b""


def open_file(path: Path) -> IO[bytes]:
    """Open a file, decompressed if its name ends in .gz. Raises ``OSError``."""
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]  # it reads bytes like any file
    return path.open("rb", buffering=0)


def read_chunk(file: AuditFile, position: int) -> bytes:
    """Return whole lines from a position on; nothing where none ends. Raises ``OSError``."""
    if not file.is_compressed and file.size <= position:
        return b""
    size = CHUNK
    with open_file(file.path) as stream:
        stream.seek(position)
        content = stream.read(size)
        while (end := content.rfind(b"\n")) < 0 and len(content) == size < MAX_LINE:
            content += stream.read(size)
            size *= 2
        if end < 0 and len(content) >= MAX_LINE:
            return content
        return content[: end + 1]
