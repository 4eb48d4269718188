"""Rotation: renames the file when it is large or old enough, and removes the oldest ones."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from glob import escape
from itertools import dropwhile
from pathlib import Path

import msgspec

from pexpolicy.audit.hash_chain import last_position
from pexpolicy.audit.targets import tail_of
from pexpolicy.config.files import open_own, read_own, sync_folder, write_own

_ROTATED = re.compile(r"\d{8}T\d{12}Z")
HEAD = 64
"""Bytes at the head of a line that hold its time."""


@dataclass
class Rotation:
    """When a file is rotated, and how many rotated files are kept; ``None`` means no limit.

    A rotated file is named after the file and the time of the rotation:
    ``audit.jsonl.20261126T010203123456Z``.
    """

    size: int | None = None
    """Bytes."""
    age: float | None = None
    """Seconds since its first line."""
    keep: int | None = None
    clock: Callable[[], datetime] = field(default=partial(datetime.now, UTC))
    removable: Callable[[Sequence[Path], Sequence[Path]], Iterable[Path]] = lambda old, _: old
    """Returns which of the files beyond ``keep`` may be removed; it gets those that stay too."""

    def is_due(self, path: Path, size: int) -> bool:
        """Return whether a file of ``size`` bytes is large or old enough.

        One whose first line is that far in the future was begun while the clock was ahead.
        """
        if self.size is not None and size >= self.size:
            return True
        if self.age is None or not size:
            return False
        began = None
        with suppress(OSError), path.open("rb") as file:
            began = first_time(file)
        return began is not None and abs((self.clock() - began).total_seconds()) >= self.age

    def rotate(self, path: Path, is_current: Callable[[], bool]) -> bool:
        """Rename the file, and remove the oldest rotated ones.

        If several writers try at once, one of them gets the lock and the others do not wait.
        ``is_current`` returns whether the path still leads to the file that is due. Return false
        when another writer was faster; raises ``OSError``.
        """
        lock = open_own(f"{path}.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not is_current():
                return False
            when = self.clock()
            target = _named(path, when)
            if target.exists():
                return False
            _rename_from_future(path, when)
            path.rename(target)
            sync_folder(path.parent)
            if self.keep is not None:
                # Files that are named later are not counted: a wrong clock must not remove others.
                until_now = [found for found in rotated(path) if found <= target]
                for old in self.removable(until_now[: -self.keep], until_now[-self.keep :]):
                    with suppress(FileNotFoundError):
                        old.unlink()
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True


def _named(path: Path, when: datetime) -> Path:
    return path.with_name(f"{path.name}.{when:%Y%m%dT%H%M%S%fZ}")


def _rename_from_future(path: Path, when: datetime) -> None:
    """Rename files that were rotated while the clock was ahead to the last names before ``when``,
    in their order. By name they would otherwise stay the newest until that time.
    """
    ahead = [found for found in rotated(path) if found > _named(path, when)]
    for file in reversed(ahead):
        while (before := _named(path, when := when - timedelta(microseconds=1))).exists():
            pass
        file.rename(before)


def rotated(path: Path) -> list[Path]:
    """Return the files that this server rotated, oldest first."""
    before = f"{path.name}."
    return sorted(
        found
        for found in path.parent.glob(f"{escape(before)}*")
        if _ROTATED.fullmatch(found.name.removeprefix(before))
    )


def first_time(lines: Iterable[bytes]) -> datetime | None:
    """Return the time of the first line of a file; ``None`` if it has none.

    Blanks before it are those of a line that was torn, or had no space.
    """
    head = next((text for line in lines if (text := line.strip())), b"")[:HEAD]
    with suppress(ValueError, IndexError):
        found = datetime.fromisoformat(head.split(b'"', 4)[3].decode())
        return found if found.tzinfo is not None else None
    return None


MAX_BYTES = 1 << 20
MAX_CHAINS = 2000
"""Chains that are noted, those with the newest lines."""
LATE_S = 300.0
"""Seconds after which lines that are not in the database need attention, as for the alert."""


class Note(msgspec.Struct):
    """Up to when all lines are in the database, and the last line of each chain there."""

    until: float
    chains: dict[str, int]


class ShippedLines:
    """Which lines are in the database, as the shipper notes it next to the file."""

    def __init__(self, audit: Path) -> None:
        self._path = audit.with_name(f"{audit.name}.shipped")
        self.note = Note(time.time(), {})
        self.read()

    def read(self) -> float:
        """Read the note; return up to when all lines are in the database, in seconds since 1970.
        Without a note that is the start of this process.
        """
        with suppress(OSError, msgspec.DecodeError):
            self.note = msgspec.json.decode(read_own(self._path, MAX_BYTES), type=Note)
        return self.note.until

    def write(self, until: float, chains: Mapping[str, int]) -> None:
        """Replace the note; raises ``OSError``."""
        self.note = Note(until, dict([*chains.items()][-MAX_CHAINS:]))
        write_own(self._path, msgspec.json.encode(self.note))

    def has(self, file: Path) -> bool:
        """Return whether the last line of a file is in the database, and so all before it."""
        boot_id, _, rest = last_position(tail_of(file)).decode().partition(":")
        return not boot_id or self.note.chains.get(boot_id, 0) >= int(rest.partition(":")[0])

    def removable(
        self, old: Sequence[Path], kept: Sequence[Path], most: float, lose: Callable[[Path], None]
    ) -> Iterator[Path]:
        """Yield which ``old`` files may be removed: those in the database, and the oldest others
        while all that are not have more than ``most`` bytes, after ``lose`` was called.
        """
        self.read()
        # They are shipped in their order, so the first that is not is enough.
        waiting = list(dropwhile(self.has, old))
        yield from old[: len(old) - len(waiting)]
        size = sum(file.stat().st_size for file in (*waiting, *kept))
        for file in waiting:
            if size <= most:
                return
            size -= file.stat().st_size
            lose(file)
            yield file
