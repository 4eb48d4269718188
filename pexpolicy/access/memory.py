"""Memory of this process, and the watermark above which connections without a call are closed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pexpolicy.config.settings import Settings
from pexpolicy.errors import Log

MIB = 1024 * 1024
SHARE = 0.75
"""Part of the memory of a control group at which its server begins to close connections."""
RELIEF = 0.9
"""Part of the watermark below which it counts as no longer exceeded."""
_UNLIMITED = 1 << 60
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Watermark:
    """Compares the memory of this process with what it may hold.

    ``limit`` is in bytes; without one it only measures. ``measure`` gives the bytes that are
    resident, or ``None`` where that is not known.
    """

    def __init__(
        self, limit: int | None, log: Log, measure: Callable[[], int | None] | None = None
    ) -> None:
        self.limit = limit
        self.resident: int | None = None
        """Bytes at the last look."""
        self.is_exceeded = False
        self._log = log
        self._measure = measure or resident_bytes
        self._trim: Callable[[int], object] | None = None

    @classmethod
    def of(cls, settings: Settings, log: Log) -> Watermark:
        """Make the watermark of a configuration: ``limits.memory_mb``, or a part of what the
        control group may hold. The workers of a server share that.
        """
        written = settings.limits.memory_mb
        if written is not None:
            return cls(written * MIB or None, log)
        limit = group_limit()
        if limit is None:
            return cls(None, log)
        return cls(int(limit * SHARE) // settings.server.workers, log)

    def look(self) -> None:
        """Measure, and log once when the watermark is exceeded."""
        self.resident = self._measure()
        if self.limit is None or self.resident is None:
            return
        if self.is_exceeded:
            self.is_exceeded = self.resident > self.limit * RELIEF
        elif self.resident > self.limit:
            self.is_exceeded = True
            self._log.warning(
                f"the server holds {self.resident // MIB} MiB of memory, and limits.memory_mb "
                f"is {self.limit // MIB}",
                consequence="connections on which no call was admitted yet are closed",
            )

    def give_back(self) -> None:
        """Return freed memory to the system, where the C library keeps it and can do that."""
        if self._trim is None:
            # Loaded once it is needed: a start does not wait for it.
            import ctypes  # noqa: PLC0415

            self._trim = getattr(ctypes.CDLL(None), "malloc_trim", _nothing)
        self._trim(0)


def _nothing(_: int) -> None:
    """Do nothing: this C library returns memory by itself, or not at all."""


def resident_bytes() -> int | None:
    """Give the resident memory of this process; ``None`` where the system does not tell."""
    try:
        content = Path("/proc/self/statm").read_bytes()
    except OSError:
        return None
    return int(content.split()[1]) * _PAGE


def group_limit(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Give the least memory limit of the control groups of this process, of either version."""
    limits = [limit for file in _limit_files(proc, groups) if (limit := _number(file)) is not None]
    return min(limits, default=None)


def _limit_files(proc: Path, groups: Path) -> Iterator[Path]:
    """Every file that may hold a limit: those of the groups, and of the groups that hold these."""
    try:
        lines = (proc / "self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if not controllers:
            root, limit = groups, "memory.max"
        elif "memory" in controllers.split(","):
            root, limit = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the group is mounted as the root, whatever its name is outside.
        group = Path(name.lstrip("/"))
        for each in (group, *group.parents):
            yield root / each / limit


def _number(file: Path) -> int | None:
    with suppress(OSError, ValueError):
        number = int(file.read_text("ascii"))
        return number if number < _UNLIMITED else None
    return None
