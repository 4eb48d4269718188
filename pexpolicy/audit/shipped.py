"""Which lines of the audit are in the database, as the shipper notes it next to the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import dropwhile
from pathlib import Path

import msgspec

from pexpolicy.audit.hash_chain import last_position
from pexpolicy.audit.targets import tail_of
from pexpolicy.config.files import read_own, write_own

MAX_BYTES = 1 << 20
MAX_CHAINS = 2000
"""Chains that are noted, those with the newest lines."""
LATE_S = 300.0
"""Seconds after which lines that are not in the database need attention, as for the alert."""


class _Note(msgspec.Struct):
    until: float
    chains: dict[str, int]


class ShippedLines:
    """The last line of each chain in the database, by ``boot_id``."""

    def __init__(self, audit: Path) -> None:
        self._path = audit.with_name(f"{audit.name}.shipped")
        self._note = _Note(time.time(), {})
        self.chains: Mapping[str, int] = {}
        self.read()

    def read(self) -> float:
        """Read the note; return up to when all lines are in the database, in seconds since 1970.
        Without a note that is the start of this process.
        """
        with suppress(OSError, msgspec.DecodeError):
            self._note = msgspec.json.decode(read_own(self._path, MAX_BYTES), type=_Note)
            self.chains = self._note.chains
        return self._note.until

    def write(self, until: float, chains: Mapping[str, int]) -> None:
        """Replace the note; raises ``OSError``."""
        self.chains = dict([*chains.items()][-MAX_CHAINS:])
        write_own(self._path, msgspec.json.encode(_Note(until, dict(self.chains))))

    def has(self, file: Path) -> bool:
        """Return whether the last line of a file is in the database, and so all before it."""
        boot_id, _, rest = last_position(tail_of(file)).decode().partition(":")
        return not boot_id or self.chains.get(boot_id, 0) >= int(rest.partition(":")[0])

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
