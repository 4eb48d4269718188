"""A file that lines are appended to, by several writers at once."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from pexpolicy.audit.torn_lines import end_last_line, overwrite, repair_torn_lines

FLAGS = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
MODE = 0o600
BLOCK = 1 << 16


class AppendFile:
    """A regular file, or a device. Whole lines in each ``write`` system call: those of several
    writers never mix.

    Raises ``OSError`` when it cannot be opened.
    """

    retry = 0.5
    """Seconds between two attempts after a write that failed."""

    def __init__(self, path: Path, mark: bytes = b"", *, ours: bool = True) -> None:
        """``mark`` is in each line of this writer, and of no other. ``ours``: nothing but lines of
        this kind stands in the file.
        """
        self.path = path
        self._mark = mark
        self._ours = ours
        self._follows = path.is_symlink()
        """A link that was there at the start is the operator's; a later one is not followed."""
        self._open()

    def _open(self, *, must_be_regular: bool = False) -> None:
        """Open what is at the path. ``must_be_regular``: nothing else may have taken the place of
        a file, where lines would vanish or be read by others.
        """
        descriptor = self._opened()
        known = os.fstat(descriptor)
        regular = stat.S_ISREG(known.st_mode)
        if must_be_regular and not regular:
            os.close(descriptor)
            raise OSError(errno.EINVAL, "a device or a pipe is in its place", str(self.path))
        self._descriptor = descriptor
        self._identity = known.st_dev, known.st_ino
        self._regular = regular
        self.size = known.st_size
        """Bytes at the last look, and what was written since."""
        self._looked_at = known.st_size
        if self._regular and self.size:
            with suppress(OSError):
                (repair_torn_lines if self._ours else end_last_line)(self._descriptor)

    def _opened(self) -> int:
        # A pipe without a reader must not keep the server waiting.
        flags = FLAGS | os.O_NONBLOCK | (0 if self._follows else os.O_NOFOLLOW)
        try:
            return os.open(self.path, os.O_RDWR | flags, MODE)
        except PermissionError:
            return os.open(self.path, os.O_WRONLY | flags, MODE)
        except OSError as error:
            if error.errno != errno.ELOOP or self._follows:
                raise
            raise OSError(errno.ELOOP, "a link is in its place", str(self.path)) from None

    def write(self, lines: bytes) -> None:
        """Append whole lines. Raises ``OSError``, and then nothing of them stands in the file."""
        written = os.write(self._descriptor, lines)
        if written != len(lines):
            self._blank(written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += written

    def _blank(self, count: int) -> None:
        """Overwrite the bytes that were appended last: half a line would be torn.

        Their blocks exist, so this needs no space. Cutting them off could take the line of another
        writer with it.
        """
        if not self._regular:
            return
        end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        with suppress(OSError):
            overwrite(self._descriptor, end - count, b" " * (count - 1) + b"\n")

    def sync(self) -> None:
        """Wait until all that was written is on the disk; raises ``OSError``."""
        if self._regular:
            os.fdatasync(self._descriptor)

    def is_current(self) -> bool:
        """True while the path leads to the file that is open; brings ``size`` up to date."""
        try:
            known = self.path.stat(follow_symlinks=self._follows)
        except OSError:
            return False
        if (known.st_dev, known.st_ino) != self._identity:
            return False
        self.size = self._looked_at = known.st_size
        return True

    def renew(self) -> bool:
        """Open what the path leads to now; raises ``OSError``, and then the old one stays open.

        When the old file was deleted, this writer's lines since the last look are copied over.
        True when lines of it were there before: they are gone.
        """
        old, looked_at = self._descriptor, self._looked_at
        self._open(must_be_regular=self._regular)
        try:
            known = os.fstat(old)
            deleted = stat.S_ISREG(known.st_mode) and known.st_nlink == 0
            if deleted and self._regular:
                self._rescue(old, looked_at)
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

    def space(self) -> tuple[int, int] | None:
        """Free bytes on its disk and how many percent that is; ``None`` where it has none."""
        if not self._regular:
            return None
        with suppress(OSError):
            disk = os.fstatvfs(self._descriptor)
            return disk.f_bavail * disk.f_frsize, 100 * disk.f_bavail // max(disk.f_blocks, 1)
        return None

    def close(self, patience: float) -> None:
        """Close it."""
        os.close(self._descriptor)
