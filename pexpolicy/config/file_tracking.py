"""Reading and tracking of the files that a policy is built from, with versions and hash."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

_TRACKED: ContextVar[list[Path] | None] = ContextVar("tracked", default=None)
READ_TIMEOUT_S = 10.0
"""Time for reading one file; a file server that is down may never answer."""
CLOCK_STEP = 0.02
"""Seconds by which the timestamp of a file may be older than the clock."""


@contextmanager
def tracking_files() -> Iterator[list[Path]]:
    """Yield a list to which every file is added that is tracked inside."""
    tracked: list[Path] = []
    token = _TRACKED.set(tracked)
    try:
        yield tracked
    finally:
        _TRACKED.reset(token)


def track_file(file: Path) -> None:
    """Track a file that is about to be read, even if it is missing. When it changes, the policy
    is built again.
    """
    tracked = _TRACKED.get()
    if tracked is not None:
        tracked.append(file)


def read_file(path: Path, timeout: float = READ_TIMEOUT_S) -> bytes:
    """Read a regular file within ``timeout`` seconds.

    Raises ``OSError`` if that is not possible, and for a pipe or device, which may have no end. A
    read that takes longer is left to a thread that does not keep the process alive.
    """
    content: list[bytes] = []
    errors: list[OSError] = []

    def read() -> None:
        try:
            content.append(_read_regular(path))
        except OSError as error:
            errors.append(error)
        except ValueError:
            errors.append(OSError(errno.EINVAL, "its name holds a NUL character", str(path)))

    thread = threading.Thread(target=read, name="pexpolicy-read", daemon=True)
    thread.start()
    thread.join(timeout)
    if errors:
        raise errors[0]
    if not content:
        raise TimeoutError(errno.ETIMEDOUT, f"no answer within {timeout:g} s", str(path))
    return content[0]


def _read_regular(path: Path) -> bytes:
    # Opening a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


class FileVersion(NamedTuple):
    """One version of a file.

    An editor that writes in place changes time or size. One that renames, and a symbolic link with
    another target, change the inode number.
    """

    device: int
    inode: int
    modified_ns: int
    changed_ns: int
    size: int

    def is_older_than(self, moment: float) -> bool:
        """Return whether it existed before a moment, in seconds since the epoch."""
        return self.changed_ns < (moment - CLOCK_STEP) * 1e9


Look = Mapping[Path, FileVersion | None]
"""The versions of some files; ``None`` for a missing one."""


def stat_files(files: Iterable[Path]) -> Look:
    """Return the present version of each file, without reading it."""
    return {file: _version(file) for file in files}


def _version(file: Path) -> FileVersion | None:
    try:
        result = os.stat(file)  # noqa: PTH116 - Path.stat is the same, and slower
    except (OSError, ValueError):
        # A name with a NUL raises ValueError.
        return None
    return FileVersion(
        result.st_dev, result.st_ino, result.st_mtime_ns, result.st_ctime_ns, result.st_size
    )


def hash_with(config_hash: str, files: Sequence[Path]) -> str:
    """Return the hash of a configuration and of the files of its plugins, 16 hexadecimal digits.

    Only the order of the files counts, not their names: the same files in another folder have the
    same hash.
    """
    if not files:
        return config_hash
    digest = hashlib.sha256(config_hash.encode())
    for file in files:
        try:
            digest.update(hashlib.sha256(read_file(file)).digest())
        except OSError:
            digest.update(b"unreadable")
    return digest.hexdigest()[:16]
