"""The backlog: lines that wait in the spool, then in memory, until they can be written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum

from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.audit.spool import Spool
from pexpolicy.audit.state import AuditState

DRAIN_BLOCKS = 8
"""Blocks of the spool that are written at a time: calls are answered in between."""


class WriteResult(IntEnum):
    """Where a line is stored, the least durable first."""

    LOST = 0
    BUFFERED = 1
    """In memory: lost if the process dies."""
    SPOOLED = 2
    WRITTEN = 3


class Backlog:
    """Lines that wait; at most ``capacity`` bytes of them in memory.

    Lines in the spool are chained already. Lines in memory are not: they follow those of the spool
    and are chained when they are written.
    """

    def __init__(self, capacity: int, spool: Spool | None, state: AuditState) -> None:
        self._capacity = capacity
        self._spool = spool
        self.state = state
        self._buffer: deque[bytes] = deque()

    @property
    def _spooled(self) -> int:
        return self._spool.pending if self._spool is not None else 0

    @property
    def buffered(self) -> int:
        """Number of lines in memory."""
        return len(self._buffer)

    @property
    def is_empty(self) -> bool:
        """True where no line waits."""
        return not self._buffer and not self._spooled

    def add(self, body: bytes, chain: HashChain) -> WriteResult:
        """Store a line; count it if it is lost."""
        state = self.state
        if self._spool is not None and not self._buffer:
            if not self._spool.pending:
                # The next start may write these lines to another file.
                chain.start_new_file()
            line, position = chain.chain_lines(body)
            try:
                self._spool.append(line)
            except OSError:
                pass  # memory is next
            else:
                chain.commit(position)
                state.spooled_bytes = self._spool.pending
                state.records += 1
                return WriteResult.SPOOLED
        if state.buffered_bytes + len(body) <= self._capacity:
            self._buffer.append(body)
            state.buffered_bytes += len(body)
            state.records += 1
            return WriteResult.BUFFERED
        chain.lost += 1
        state.lost += 1
        return WriteResult.LOST

    def drain(self, write: Callable[[bytes], None], chain: HashChain) -> bool:
        """Write waiting lines in order; return true when none is left. Raises ``OSError``."""
        self._drain_spool(write)
        while self._buffer and not self._spooled:
            line, position = chain.chain_lines(self._buffer[0])
            write(line)
            chain.commit(position)
            self.state.buffered_bytes -= len(self._buffer.popleft())
        return self.is_empty

    def _drain_spool(self, write: Callable[[bytes], None]) -> None:
        if self._spool is None:
            return
        for _ in range(DRAIN_BLOCKS):
            if not self._spool.pending:
                break
            lines = self._spool.first()
            write(lines)
            self._spool.remove(len(lines))
            self.state.spooled_bytes = self._spool.pending

    def sync(self) -> None:
        """Wait until the spool is on the disk; raises ``OSError``."""
        if self._spool is not None:
            self._spool.sync()

    def close(self) -> None:
        """Close the spool; lines in it stay for the next start."""
        if self._spool is not None:
            self._spool.close()
