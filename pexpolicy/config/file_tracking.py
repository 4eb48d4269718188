"""The files that a policy is made of: what they hold, and how one sees that they have changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

_NOTED: ContextVar[list[Path] | None] = ContextVar("noted", default=None)
CLOCK_STEP = 0.02
"""Seconds by which the time of a file may lie behind the clock."""


@contextmanager
def tracking_files() -> Iterator[list[Path]]:
    """Gives a list, to which every file is added that is read inside and noted."""
    noted: list[Path] = []
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


def track_file(file: Path) -> None:
    """Track a file that is about to be read, or would be if it were there: when it changes, the
    policy is built again.
    """
    noted = _NOTED.get()
    if noted is not None:
        noted.append(file)


class FileVersion(NamedTuple):
    """One version of a file.

    An editor that writes in place changes time or size; one that renames, and a symbolic link on
    the way that leads elsewhere, change the file's number.
    """

    device: int
    number: int
    modified_ns: int
    changed_ns: int
    size: int

    def is_older_than(self, moment: float) -> bool:
        """True when it was there before a moment, in seconds since the epoch."""
        return self.changed_ns < (moment - CLOCK_STEP) * 1e9


Look = Mapping[Path, FileVersion | None]
"""What was seen of some files; ``None`` for one that is not there."""


def stat_files(files: Iterable[Path]) -> Look:
    """See which version of each file is there, without reading it."""
    return {file: _version(file) for file in files}


def _version(file: Path) -> FileVersion | None:
    try:
        seen = os.stat(file)  # noqa: PTH116 - Path.stat is the same, and slower
    except (OSError, ValueError):
        # A name with a NUL in it is a ValueError, and no file either.
        return None
    return FileVersion(seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size)


def hash_with(config_hash: str, files: Sequence[Path]) -> str:
    """The hash of a configuration and of the files that its plugins were made of.

    16 hexadecimal digits, like that of the configuration alone. Names count by their order only:
    the same files in another folder are the same configuration.
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
