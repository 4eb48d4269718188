"""The spool: where lines wait that cannot be written where they belong."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pexpolicy.audit.append_file import BLOCK, FLAGS, MODE

SUFFIX = ".spool"


class Spool:
    """One file of a writer in the folder of the spool. It exists while lines wait.

    The lines are sealed already. A writer that dies leaves its file behind, and the lock on it ends
    with the writer: whoever starts next takes it over (``orphans``).
    """

    def __init__(self, folder: Path, boot_id: str, bound: int) -> None:
        """``bound`` is the most bytes that may wait."""
        self._folder = folder
        self._path = folder / f"{boot_id}{SUFFIX}"
        self._bound = bound
        self._descriptor = -1
        self._start = 0
        self._size = 0

    @property
    def waiting(self) -> int:
        """Bytes that wait."""
        return self._size - self._start

    def append(self, line: bytes) -> None:
        """Take one line; raises ``OSError``, and then nothing of it is there."""
        if self.waiting + len(line) > self._bound:
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
        descriptor = os.open(self._path, os.O_RDWR | FLAGS & ~os.O_APPEND, MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor, self._start, self._size = descriptor, 0, 0

    def first(self) -> bytes:
        """The lines that wait longest, as many as fit in a block, and one at least."""
        length = BLOCK
        while True:
            lines = os.pread(self._descriptor, length, self._start)
            end = lines.rfind(b"\n") + 1
            if end or len(lines) < length:
                return lines[:end]
            length *= 2

    def remove(self, count: int) -> None:
        """Let go of so many bytes at the front; they stand where they belong now."""
        self._start += count
        if self._start == self._size:
            self.close()

    def sync(self) -> None:
        """Wait until the lines that wait are on the disk; raises ``OSError``."""
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Let go of the file; what waits stays in it for the next start."""
        if self._descriptor < 0:
            return
        if self._start == self._size:
            self._path.unlink(missing_ok=True)
        elif self._start:
            self._keep_rest()
        os.close(self._descriptor)
        self._descriptor, self._start, self._size = -1, 0, 0

    def _keep_rest(self) -> None:
        """Leave only what waits in the file, so that nothing is written twice."""
        rest = os.pread(self._descriptor, self.waiting, self._start)
        beside = self._path.with_name(f"{self._path.name}.new")
        try:
            with open(beside, "wb", opener=_private) as file:
                file.write(rest)
            beside.replace(self._path)
        except OSError:
            # The whole file is left: lines that are there twice can be told, lost ones cannot.
            with suppress(OSError):
                beside.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, MODE)


def orphans(folder: Path) -> Iterator[bytes]:
    """The lines of writers that are gone, in blocks. What was taken is blanked in its file, which
    needs no space and leaves the rest for the next start; once all is taken the file is removed.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(OSError), path.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(file.fileno()).st_nlink:
                continue  # another one was faster
            yield from _blocks(file.fileno())
            path.unlink()


def _blocks(descriptor: int) -> Iterator[bytes]:
    """Whole lines, as many as fit in a block and one at least; half a line at the end is left."""
    at, length = 0, BLOCK
    while content := os.pread(descriptor, length, at):
        end = content.rfind(b"\n") + 1
        if end:
            if lines := content[:end].lstrip(b" \n"):
                yield lines
                os.pwrite(descriptor, b" " * (end - 1) + b"\n", at)
            at, length = at + end, BLOCK
        elif len(content) < length:
            return
        else:
            length *= 2
