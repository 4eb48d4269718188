"""Rotation: the file is renamed when it is large or old enough, and the oldest ones go."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pexpolicy.audit.append_file import MODE

_ROTATED = re.compile(r"\d{8}T\d{12}Z")
HEAD = 64
"""Bytes at the head of a file that hold the time of its first line."""


def now() -> datetime:
    """The time of day, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Rotation:
    """When a file is rotated, and how many rotated ones are kept; ``None`` is without limit.

    A rotated file is called like the file, with the time of its rotation after it:
    ``audit.jsonl.20261126T010203123456Z``.
    """

    size: int | None = None
    """Bytes."""
    age: float | None = None
    """Seconds since its first line."""
    keep: int | None = None
    clock: Callable[[], datetime] = now

    def is_due(self, path: Path, size: int) -> bool:
        """True when a file of ``size`` bytes is large or old enough."""
        if self.size is not None and size >= self.size:
            return True
        if self.age is None or not size:
            return False
        began = first_time(path)
        return began is not None and (self.clock() - began).total_seconds() >= self.age

    def rotate(self, path: Path, identity: Callable[[], bool]) -> bool:
        """Rename the file, and remove the oldest rotated ones.

        Several writers may find that it is time: one of them does it, under a lock that nobody
        waits for. ``identity`` says whether the path still leads to the file that was found large
        or old enough. False when another writer was faster; raises ``OSError``.
        """
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not identity():
                return False
            when = self.clock()
            aside = _named(path, when)
            if aside.exists():
                return False
            _rename_from_future(path, when)
            path.rename(aside)
            _sync_folder(path.parent)
            self._remove_oldest(path, aside)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    def _remove_oldest(self, path: Path, newest: Path) -> None:
        """Keep ``newest`` and those before it; what claims to be younger is no reason to remove
        anything.
        """
        if self.keep is not None:
            until_now = [found for found in rotated(path) if found <= newest]
            for old in until_now[: -self.keep]:
                with suppress(FileNotFoundError):
                    old.unlink()


def _named(path: Path, when: datetime) -> Path:
    return path.with_name(f"{path.name}.{when:%Y%m%dT%H%M%S%fZ}")


def _rename_from_future(path: Path, when: datetime) -> None:
    """Give files that were rotated while the clock was ahead the latest names before ``when``, in
    their order: by name they would stay the youngest until that time has come.
    """
    ahead = [found for found in rotated(path) if found > _named(path, when)]
    for file in reversed(ahead):
        while (before := _named(path, when := when - timedelta(microseconds=1))).exists():
            pass
        file.rename(before)


def rotated(path: Path) -> list[Path]:
    """The files that were rotated here, oldest first."""
    before = f"{path.name}."
    return sorted(
        found
        for found in path.parent.glob(f"{before}*")
        if _ROTATED.fullmatch(found.name.removeprefix(before))
    )


def first_time(path: Path) -> datetime | None:
    """The time of the first line of a file; ``None`` where there is none, or none of ours."""
    with suppress(OSError, ValueError, IndexError), path.open("rb") as file:
        found = datetime.fromisoformat(file.read(HEAD).split(b'"', 4)[3].decode())
        return found if found.tzinfo is not None else None
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
