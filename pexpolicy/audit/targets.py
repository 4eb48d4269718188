"""Targets of audit lines: append-only files and streams.

A server that is killed while it writes may leave a torn line: Linux ends the write of a process
that gets SIGKILL between two pages of the file. The reply of such a call has not been sent, so
nothing is missing from the record. But a torn line is not JSON, and the line of another writer may
follow it immediately. It is overwritten with blanks, which readers of JSON lines skip, also before
a line.
"""

from __future__ import annotations

import errno
import os
import re
import select
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from pexpolicy.config.files import open_own

FLAGS = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
MODE = 0o600
BLOCK = 1 << 16

TAIL = 1 << 20
"""Bytes at the end of a file that hold its last line."""


class AppendFile:
    """A regular file, or a device. Each ``write`` system call has whole lines, so the lines of
    several writers never mix.

    Raises ``OSError`` if it cannot be opened.
    """

    retry = 0.5
    """Seconds between attempts after a failed write."""

    def __init__(self, path: Path, mark: bytes = b"", *, audit_only: bool = True) -> None:
        """``mark`` occurs in each line of this writer, and of no other. ``audit_only``: the file
        has no lines of another kind.
        """
        self.path = path
        self._mark = mark
        self._audit_only = audit_only
        self._follows = path.is_symlink()
        """A link that exists at the start is the operator's; a later one is not followed."""
        self._open()

    def _open(self, *, must_be_regular: bool = False) -> None:
        """Open the path. ``must_be_regular``: fail if a device or pipe has replaced the file, where
        lines would vanish or be read by others.
        """
        # Opening a pipe without a reader must not block.
        flags = FLAGS | os.O_NONBLOCK | (0 if self._follows else os.O_NOFOLLOW)
        try:
            descriptor = os.open(self.path, os.O_RDWR | flags, MODE)
        except PermissionError:
            descriptor = os.open(self.path, os.O_WRONLY | flags, MODE)
        except OSError as error:
            if error.errno != errno.ELOOP or self._follows:
                raise
            raise OSError(errno.ELOOP, "a link has replaced it", str(self.path)) from None
        known = os.fstat(descriptor)
        self._regular = stat.S_ISREG(known.st_mode)
        if must_be_regular and not self._regular:
            os.close(descriptor)
            self._regular = True
            raise OSError(errno.EINVAL, "a device or a pipe has replaced it", str(self.path))
        self._descriptor = descriptor
        self._identity = known.st_dev, known.st_ino
        self.size = self._checked_size = known.st_size
        """Bytes at the last check, and those written since."""
        if self._regular and self.size:
            with suppress(OSError):
                (repair_torn_lines if self._audit_only else terminate_last_line)(descriptor)

    def write(self, lines: bytes) -> None:
        """Append whole lines. Raises ``OSError``, and then none of them is in the file."""
        written = os.write(self._descriptor, lines)
        if written == len(lines):
            self.size += written
            return
        if self._regular:
            # Blanks need no space, as their blocks exist. To truncate the file could remove the
            # line of another writer.
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            with suppress(OSError):
                overwrite(self._descriptor, end - written, b" " * (written - 1) + b"\n")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        """Wait until all written lines are on the disk; raises ``OSError``."""
        if self._regular:
            os.fdatasync(self._descriptor)

    def is_current(self) -> bool:
        """Return whether the path leads to the open file; update ``size``."""
        try:
            known = self.path.stat(follow_symlinks=self._follows)
        except OSError:
            return False
        if (known.st_dev, known.st_ino) != self._identity:
            return False
        self.size = self._checked_size = known.st_size
        return True

    def reopen(self) -> bool:
        """Open the path again; raises ``OSError``, and then the old file stays open.

        If the old file was deleted, copy this writer's lines since the last check. Return true if
        it was deleted and not empty: earlier lines are gone.
        """
        old, checked_size = self._descriptor, self._checked_size
        self._open(must_be_regular=self._regular)
        try:
            known = os.fstat(old)
            deleted = stat.S_ISREG(known.st_mode) and known.st_nlink == 0
            if deleted and self._regular:
                self._rescue(old, checked_size)
            return deleted and known.st_size > 0
        finally:
            os.close(old)

    def _rescue(self, deleted: int, start: int) -> None:
        with suppress(OSError):
            rest = b""
            while block := os.pread(deleted, BLOCK, start):
                start += len(block)
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    if self._mark in line:
                        self.write(line + b"\n")

    def tail(self) -> bytes:
        """Return the end of the open file; empty if it cannot be read.

        The path may lead to another file already, which another writer has begun.
        """
        return _tail(self._descriptor) if self._regular else b""

    def space(self) -> tuple[int, int] | None:
        """Return the free bytes of its disk, and percent; ``None`` for a device."""
        if not self._regular:
            return None
        with suppress(OSError):
            return free_space(self._descriptor)
        return None

    def close(self, timeout: float) -> None:
        """Close it."""
        os.close(self._descriptor)


def free_space(place: int | Path) -> tuple[int, int]:
    """Return the free bytes of the disk of a descriptor or path, and percent.

    What is reserved or beyond a quota counts neither as free nor as used, as in ``df``. Raises
    ``OSError``.
    """
    disk = shutil.disk_usage(place)
    return disk.free, 100 * disk.free // max(disk.free + disk.used, 1)


def tail_of(path: Path, count: int = TAIL) -> bytes:
    """Return the last ``count`` bytes of a file; empty if it cannot be read."""
    with suppress(OSError), path.open("rb") as file:
        return _tail(file.fileno(), count)
    return b""


def _tail(descriptor: int, count: int = TAIL) -> bytes:
    with suppress(OSError):
        return os.pread(descriptor, count, max(os.fstat(descriptor).st_size - count, 0))
    return b""


class Stream:
    """A non-blocking writer for a descriptor, such as standard output. ``write`` raises
    ``BlockingIOError`` when the reader has stalled.

    The descriptor is opened again, or written in small pieces, because ``O_NONBLOCK`` would apply
    to all processes that share it. A line of up to ``PIPE_BUF`` bytes (4,096) is written whole; the
    rest of a longer one is stored and written first.
    """

    retry = 0.02
    """As for a file."""

    def __init__(self, descriptor: int) -> None:
        self._unsent = b""
        self._may_block = False
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        try:
            self._descriptor = os.open(f"/dev/fd/{descriptor}", flags)
        except OSError:  # such as a socket
            self._descriptor = os.dup(descriptor)
            self._may_block = True

    def write(self, lines: bytes) -> None:
        """Write lines, or store the rest of lines that were begun; raises ``OSError``."""
        self._send_unsent()
        if self._unsent:
            raise BlockingIOError
        self._unsent = lines[self._send(lines) :]
        self._send_unsent()

    def _send_unsent(self) -> None:
        with suppress(BlockingIOError):
            while self._unsent:
                self._unsent = self._unsent[self._send(self._unsent) :]

    def _send(self, content: bytes) -> int:
        if self._may_block:
            if not select.select((), (self._descriptor,), (), 0)[1]:
                raise BlockingIOError
            content = content[: select.PIPE_BUF]
        return os.write(self._descriptor, content)

    def sync(self) -> None:
        """Do nothing: it has no disk."""

    def is_current(self) -> bool:
        """Return true: it has no path that may lead elsewhere."""
        return True

    def reopen(self) -> bool:
        """Do nothing, and return false: its content is not gone."""
        return False

    def space(self) -> None:
        """Return ``None``: it has no disk."""

    def close(self, timeout: float) -> None:
        """Write the rest of a line within ``timeout`` seconds, and close it."""
        deadline = time.monotonic() + timeout
        with suppress(OSError):
            while self._unsent and (left := deadline - time.monotonic()) > 0:
                select.select((), (self._descriptor,), (), left)
                self._send_unsent()
        os.close(self._descriptor)


Target = AppendFile | Stream


LINE_START = b'{"timestamp":"'
"""The start of each line."""
CHAINED = re.compile(rb',"hash":"[0-9a-f]{64}"\}\Z')
"""The end of each line. A line that ends so and is not JSON has other damage and is not changed, so
that it can be examined.
"""
HASH_SIZE = len(',"hash":"') + 64 + len('"}')
"""Bytes of that end."""
WINDOW = 1 << 24
"""Bytes at the end of a file that are searched: more than is written in two seconds."""
SMALLEST_BLOCK = 512
"""The smallest block of a file system. A killed write ends at a multiple of a page, and so of this;
text that ends elsewhere was not torn by us.
"""


def terminate_last_line(descriptor: int) -> None:
    """Append a line end if the last line has none; raises ``OSError``."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")


def repair_torn_lines(descriptor: int) -> None:
    """Overwrite torn lines near the end of a file that is open for reading and appending.

    Raises ``OSError``; lines blanked before that stay blanked.
    """
    # A line end that is appended now follows every write in progress: all before it is complete.
    terminate_last_line(descriptor)
    size = os.fstat(descriptor).st_size
    start = max(0, size - WINDOW)
    content = os.pread(descriptor, size - start, start)
    for first, end in _torn_ranges(content, inside=start > 0):
        if (start + end) % SMALLEST_BLOCK == 0:
            overwrite(descriptor, start + first, b" " * (end - first))


def repair_file(path: Path) -> None:
    """Do the same for a file that is not open; skip one that cannot be opened."""
    with suppress(OSError), os.fdopen(open_own(path, os.O_RDWR | os.O_APPEND), "rb") as file:
        repair_torn_lines(file.fileno())


def overwrite(descriptor: int, at: int, content: bytes) -> None:
    """Write at an offset of a file that is open for appending; raises ``OSError``."""
    # A descriptor with O_APPEND always writes at the end, so this needs another one.
    other = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(other, content, at)
    finally:
        os.close(other)


def _torn_ranges(content: bytes, *, inside: bool) -> Iterator[tuple[int, int]]:
    """Yield the offsets at which torn lines begin and end, without their line ends.

    ``inside``: the content may begin within a line. Text after the last line end is still being
    written.
    """
    first = content.find(b"\n") + 1 if inside else 0
    for line in content[first:].split(b"\n")[:-1]:
        if line:
            yield from ((first, first + end) for end in _torn_end(line))
        first += len(line) + 1


def _torn_end(line: bytes) -> Iterator[int]:
    """Yield the end of the torn line at the start of ``line``, if there is one."""
    other = line.rfind(LINE_START)
    if CHAINED.search(line):
        is_torn = other > 0 and _begins(line[:other]) and decoded(line[other:]) is not None
        if is_torn and decoded(line) is None:
            yield other
    elif _begins(line) and decoded(line) is None:
        yield len(line)


def _begins(text: bytes) -> bool:
    return text.startswith(LINE_START) or LINE_START.startswith(text)


def decoded(line: bytes, decode: Callable[[bytes], Any] = msgspec.json.decode) -> Any:
    """Return the JSON in a line; ``None`` where there is none."""
    try:
        if not line.isascii():
            line.decode()  # msgspec does not check the encoding of values that it skips
        return decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
