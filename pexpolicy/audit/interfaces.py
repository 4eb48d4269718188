"""What a journal is put together of: where lines belong, what rotates it, what signs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pexpolicy.audit.hash_chain import HashChain

Rotate = Callable[[bool], bool]
"""Rotates the file when that is due, or in any case; true when it did. Raises ``OSError``."""


class Target(Protocol):
    """Where lines belong: a file or a stream. ``retry`` is the seconds between two attempts."""

    retry: float

    def write(self, lines: bytes) -> None:
        """Write whole lines; raises ``OSError``, and then none of them stands there."""

    def sync(self) -> None:
        """Wait for the disk; raises ``OSError``."""

    def is_current(self) -> bool:
        """False when what is open is no longer what the path leads to."""

    def renew(self) -> bool:
        """Open it anew; true when what stood in the old one is gone. Raises ``OSError``."""

    def space(self) -> tuple[int, int] | None:
        """Free bytes of its disk, and percent."""

    def close(self, patience: float) -> None:
        """Close it; what was begun may take so many seconds."""


class Checkpoints(Protocol):
    """Signs now and then where the chain stands."""

    def is_due(self, seal: HashChain, now: float) -> bool:
        """True when it is time for one."""

    def line(self, seal: HashChain, now: float, event: str = "checkpoint") -> bytes:
        """The line of a checkpoint over the lines so far, or of the end."""
