"""Lines that wait until they can be written: in the spool first, then in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum

from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.audit.spool import Spool
from pexpolicy.audit.state import AuditState

SLICE = 8
"""Blocks of the spool that are brought home at once: calls are answered in between."""


class WriteResult(IntEnum):
    """What became of a line."""

    LOST = 0
    HELD = 1
    """It waits in memory, and is lost if the process dies."""
    SPOOLED = 2
    WRITTEN = 3


class Backlog:
    """What waits. ``room`` is the most bytes that are held in memory.

    Lines in the spool are sealed already, lines in memory are not: they are behind those of the
    spool, and what is written of them once there is space again is for then.
    """

    def __init__(self, room: int, spool: Spool | None, state: AuditState) -> None:
        self._room = room
        self._spool = spool
        self.state = state
        self._held: deque[bytes] = deque()

    def __len__(self) -> int:
        return self._spooled + self.state.held_bytes

    @property
    def _spooled(self) -> int:
        return self._spool.waiting if self._spool is not None else 0

    @property
    def held(self) -> int:
        """Lines that are held in memory."""
        return len(self._held)

    def add(self, body: bytes, seal: HashChain) -> WriteResult:
        """Let a line wait; a lost one is counted."""
        state = self.state
        if self._spool is not None and not self._held:
            try:
                self._spool.append(seal.line(body))
            except OSError:
                pass  # memory is next
            else:
                seal.advance()
                state.spooled_bytes = self._spool.waiting
                state.records += 1
                return WriteResult.SPOOLED
        if state.held_bytes + len(body) <= self._room:
            self._held.append(body)
            state.held_bytes += len(body)
            state.records += 1
            return WriteResult.HELD
        seal.lost += 1
        state.lost += 1
        return WriteResult.LOST

    def bring_home(self, write: Callable[[bytes], None], seal: HashChain) -> bool:
        """Write lines that wait, in their order; true when none is left. Raises ``OSError``."""
        self._empty_spool(write)
        while self._held and not self._spooled:
            write(seal.line(self._held[0]))
            seal.advance()
            self.state.held_bytes -= len(self._held.popleft())
        return not self

    def _empty_spool(self, write: Callable[[bytes], None]) -> None:
        if self._spool is None:
            return
        for _ in range(SLICE):
            if not self._spool.waiting:
                break
            lines = self._spool.first()
            write(lines)
            self._spool.remove(len(lines))
            self.state.spooled_bytes = self._spool.waiting

    def sync(self) -> None:
        """Wait until the spool is on the disk; raises ``OSError``."""
        if self._spool is not None:
            self._spool.sync()

    def close(self) -> None:
        """Let go of the spool; what waits in it stays there for the next start."""
        if self._spool is not None:
            self._spool.close()
