"""Tracking of the files that a policy is built from, their versions and their hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

_TRACKED: ContextVar[list[Path] | None] = ContextVar("tracked", default=None)
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
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError:
            digest.update(b"unreadable")
    return digest.hexdigest()[:16]
