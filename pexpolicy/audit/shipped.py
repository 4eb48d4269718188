"""Which lines of the audit are in the database, as the shipper writes it next to the file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import dropwhile
from pathlib import Path

import msgspec

from pexpolicy.audit.hash_chain import last_position
from pexpolicy.audit.state import AuditState
from pexpolicy.audit.targets import tail_of
from pexpolicy.config.files import FileVersion, open_own, read_own, version_of

SUFFIX = ".shipped"
MAX_BYTES = 1 << 20
MAX_CHAINS = 2000
"""Chains that are written, those with the newest lines: a file has one of the last few."""
LATE_S = 300.0
"""Seconds after which lines that are not in the database need attention, as for the alert."""


class _Document(msgspec.Struct):
    until: float
    chains: dict[str, int]


class ShippedLines:
    """The last line of each chain in the database, by ``boot_id``."""

    def __init__(self, audit: Path) -> None:
        self.until = time.time()
        """Seconds since 1970 up to which all lines are in the database; at first, now."""
        self._chains: Mapping[str, int] = {}
        self._path = audit.with_name(f"{audit.name}{SUFFIX}")
        self._version: FileVersion | None = None

    def read(self) -> None:
        """Read what the shipper has written since the last time; without it, nothing changes."""
        version = version_of(self._path)
        if version is None or version == self._version:
            return
        with suppress(OSError, msgspec.DecodeError):
            found = msgspec.json.decode(read_own(self._path, MAX_BYTES), type=_Document)
            self.until, self._chains, self._version = found.until, found.chains, version

    def write(self, until: float, chains: Mapping[str, int]) -> None:
        """Replace the file; raises ``OSError``."""
        newest = dict([*chains.items()][-MAX_CHAINS:])
        new = self._path.with_name(f"{self._path.name}.new")
        with os.fdopen(open_own(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(msgspec.json.encode(_Document(until, newest)))
        new.replace(self._path)

    def has(self, file: Path) -> bool:
        """Return whether the last line of a file is in the database, and so all before it."""
        boot_id, _, rest = last_position(tail_of(file)).decode().partition(":")
        return not boot_id or self._chains.get(boot_id, 0) >= int(rest.partition(":")[0])


class Retention:
    """Keeps files that are not in the database, up to ``most`` bytes."""

    def __init__(
        self, shipped: ShippedLines, most: int, state: AuditState, alert: Callable[[str], None]
    ) -> None:
        self._shipped = shipped
        self._most = most
        self._state = state
        self._alert = alert

    def removable(self, old: Sequence[Path], kept: Sequence[Path]) -> Iterator[Path]:
        """Yield which of the ``old`` files may be removed, the oldest first."""
        self._shipped.read()
        # They are shipped in their order, so the first that is not is enough.
        waiting = list(dropwhile(self._shipped.has, old))
        yield from old[: len(old) - len(waiting)]
        sizes = {file: _size(file) for file in (*waiting, *kept)}
        for file in waiting:
            if sum(sizes.values()) <= self._most:
                return
            del sizes[file]
            self._state.removed_unshipped += 1
            self._alert(
                f"{file} was removed before it was in the database of [audit.ship]: "
                "more than max_gb waits"
            )
            yield file


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
