"""Memory watermark of this process, above which unauthenticated connections are closed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pexpolicy.config.settings import Settings
from pexpolicy.errors import Log

MIB = 1024 * 1024
SHARE = 0.75
"""Fraction of the memory limit of a control group that is the default watermark."""
RELIEF = 0.9
"""Fraction of the watermark below which it is no longer exceeded."""
_UNLIMITED = 1 << 60
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Watermark:
    """Compares the resident memory of this process with a limit in bytes.

    Without a limit it only measures. ``measure`` returns the resident bytes, or ``None`` where the
    system does not report them.
    """

    def __init__(
        self, limit: int | None, log: Log, measure: Callable[[], int | None] | None = None
    ) -> None:
        self.limit = limit
        self.resident: int | None = None
        """Bytes at the last measurement."""
        self.is_exceeded = False
        self._log = log
        self._measure = measure or resident_bytes

    @classmethod
    def of(cls, settings: Settings, log: Log, processes: int = 1) -> Watermark:
        """Return the watermark of a configuration: ``limits.memory_mb``, or a fraction of the
        limit of the control group divided by the number of ``processes`` that serve.
        """
        configured = settings.limits.memory_mb
        if configured is not None:
            return cls(configured * MIB or None, log)
        limit = group_limit()
        if limit is None:
            return cls(None, log)
        return cls(int(limit * SHARE) // processes, log)

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
        """Return freed memory to the system if the C library supports it."""
        # Imported on demand, to keep it out of the start.
        import ctypes  # noqa: PLC0415

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def resident_bytes() -> int | None:
    """Return the resident memory of this process; ``None`` if the system does not report it."""
    try:
        content = Path("/proc/self/statm").read_bytes()
    except OSError:
        return None
    return int(content.split()[1]) * _PAGE


def group_limit(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the smallest memory limit of the control groups (v1 or v2) of this process."""
    limits = [limit for file in _limit_files(proc, groups) if (limit := _number(file)) is not None]
    return min(limits, default=None)


def _limit_files(proc: Path, groups: Path) -> Iterator[Path]:
    """Yield the limit files of the control groups and of their parents."""
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
