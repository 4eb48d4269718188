"""The spool: a folder with lines that wait until they can be written."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

from pexpolicy.audit.targets import BLOCK
from pexpolicy.config.files import open_own

SUFFIX = ".spool"
SPOOL_BYTES = 256 << 20
"""Maximum size of a file of the spool."""
MAX_LINE = 1 << 20
"""Bytes of a line; what is longer was not written by a server."""


class Spool:
    """The file of one writer in the spool folder. It exists while lines wait.

    The lines are chained already. When a writer dies its file stays and its lock is released: the
    next start writes the lines (``orphaned_lines``).
    """

    def __init__(self, folder: Path, boot_id: str, max_bytes: int) -> None:
        self._path = folder / f"{boot_id}{SUFFIX}"
        self._max_bytes = max_bytes
        self._descriptor = -1
        self._start = 0
        self._size = 0

    @property
    def pending(self) -> int:
        """Bytes that wait."""
        return self._size - self._start

    def append(self, line: bytes) -> None:
        """Append one line; raises ``OSError``, and then nothing of it is stored."""
        if self._size + len(line) > self._max_bytes or len(line) > MAX_LINE:
            raise OSError(errno.EDQUOT, "the spool is full")
        if self._descriptor < 0:
            self._open()
        written = os.pwrite(self._descriptor, line, self._size)
        if written != len(line):
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written

    def _open(self) -> None:
        # No administrator can make one for the user of a service with DynamicUser=yes.
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = open_own(self._path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(descriptor).st_nlink:
                # A server that starts has removed it, as one that a dead writer left empty.
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor, self._start, self._size = descriptor, 0, 0

    def first(self) -> bytes:
        """Return the oldest lines, as many as fit in a block, and at least one."""
        return _read_lines(self._descriptor, self._start)

    def remove(self, count: int) -> None:
        """Remove ``count`` bytes at the front, which have been written."""
        with suppress(OSError):
            # Otherwise they are written twice, which can be recognized.
            _blank(self._descriptor, self._start, count)
        self._start += count
        if self._start == self._size:
            self.close()

    def sync(self) -> None:
        """Wait until the lines are on the disk; raises ``OSError``."""
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file; pending lines stay in it for the next start."""
        if self._descriptor < 0:
            return
        if self._start == self._size:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor, self._start, self._size = -1, 0, 0


def _blank(descriptor: int, start: int, count: int) -> None:
    """Overwrite whole lines with blanks, which needs no space; raises ``OSError``."""
    os.pwrite(descriptor, b" " * (count - 1) + b"\n", start)


def orphaned_lines(folder: Path, alert: Callable[[str], object]) -> Iterator[bytes]:
    """Yield the lines of writers that have died, in blocks.

    Each block is blanked in its file after it was processed, so the rest is left for the next
    start. An empty file is removed. One with a torn last line, as after a loss of power, is
    renamed, and ``alert`` is told, as for a file that no server has made.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            descriptor = open_own(path, os.O_RDWR, most=SPOOL_BYTES)
        except FileNotFoundError:
            continue  # another process was faster
        except OSError as error:
            alert(f"{path} is not read into the audit: {error.strerror}")
            continue
        with suppress(OSError), os.fdopen(descriptor, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(descriptor).st_nlink:
                continue  # another process was faster
            start = 0
            while block := _read_lines(descriptor, start):
                if lines := block.lstrip(b" \n"):
                    yield lines
                    _blank(descriptor, start, len(block))
                start += len(block)
            if os.fstat(descriptor).st_size <= start:
                path.unlink()
                continue
            torn = path.rename(path.with_name(f"{path.name}.torn"))
            alert(
                f"{path} has a line without an end within 1 MB, and was renamed to {torn}; "
                "pexpolicy audit verify reports the gap"
            )


def _read_lines(descriptor: int, start: int) -> bytes:
    """Return whole lines, as many as fit in a block and at least one; skip a torn line."""
    length = BLOCK
    while True:
        content = os.pread(descriptor, length, start)
        end = content.rfind(b"\n") + 1
        if end or len(content) < length or length >= MAX_LINE:
            return content[:end]
        length *= 2


class WriteResult(IntEnum):
    """Where a line is stored, the least durable first."""

    LOST = 0
    BUFFERED = 1
    """In memory: lost if the process dies."""
    SPOOLED = 2
    WRITTEN = 3
