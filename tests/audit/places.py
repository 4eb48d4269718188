"""Journals over files that fail on request, and readers of what they wrote."""

import errno
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pexpolicy.audit.hash_chain import HashChain
from pexpolicy.audit.journal import AuditState, Journal
from pexpolicy.audit.reader import RawLine
from pexpolicy.audit.spool import Spool, WriteResult
from pexpolicy.audit.targets import AppendFile
from pexpolicy.audit.verify import Verification


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class Faulty(AppendFile):
    """A file whose writes fail while `error` is set, on a disk with space."""

    error: int | None = None
    free = (1 << 40, 90)
    """Bytes and percent."""

    def write(self, lines: bytes) -> None:
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        super().write(lines)

    def sync(self) -> None:
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        super().sync()

    def space(self) -> tuple[int, int] | None:
        return self.free


@dataclass
class Place:
    """A journal over such a file, with its clock."""

    folder: Path
    capacity: int = 1 << 20
    spool: int | None = None
    """Bytes of the spool; `None` for no spool."""
    clock: Clock = field(default_factory=Clock)
    alerts: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path = self.folder / "audit.jsonl"
        self.chain = HashChain()
        self.file = Faulty(self.path, self.chain.mark)
        spool = None if self.spool is None else Spool(self.folder, self.chain.boot_id, self.spool)
        self.journal = Journal(
            self.file,
            self.chain,
            AuditState(),
            self.alerts.append,
            spool=spool,
            capacity=self.capacity,
            clock=self.clock,
            **self.options,
        )

    @property
    def state(self) -> AuditState:
        return self.journal.state

    def fill(self, numbers: Iterable[int]) -> list[int]:
        """Record numbered lines; return the result of each."""
        return [int(self.journal.record(body(number))) for number in numbers]

    def fill_together(self, numbers: Sequence[int]) -> list[int]:
        """Record lines together; as all have the same size, the first ones fit."""
        lost = self.state.lost
        least = self.journal.record(*map(body, numbers))
        lost = self.state.lost - lost
        result = WriteResult.BUFFERED if lost else least
        assert (least is WriteResult.LOST) == bool(lost)
        return [int(result)] * (len(numbers) - lost) + [int(WriteResult.LOST)] * lost

    def break_down(self, error: int = errno.ENOSPC) -> None:
        self.file.error = error

    def recover(self) -> None:
        """Make the file writable again, and let time pass."""
        self.file.error = None
        self.clock.pass_by(2.0)
        self.journal.tick()
        self.clock.pass_by(2.0)
        self.journal.tick()

    @property
    def status(self) -> str:
        return self.journal.state.status

    @property
    def numbers(self) -> list[int]:
        return [line["n"] for line in lines(self.path) if "n" in line]


def chained(chain: HashChain, *bodies: bytes) -> bytes:
    lines, position = chain.chain_lines(*bodies)
    chain.commit(position)
    return lines


def body(number: int, text: str = "") -> bytes:
    """Return a line with a number that identifies it."""
    line = {"timestamp": "2026-11-26T01:02:03.000004Z", "event": "decision", "n": number}
    return json.dumps({**line, "text": text} if text else line, separators=(",", ":")).encode()


def lines(*paths: Path) -> list[dict[str, Any]]:
    """Return the lines of files; each must be JSON."""
    return [
        json.loads(line)
        for path in paths
        for line in path.read_bytes().splitlines()
        if line.strip()
    ]


def faults(*paths: Path, **options: Any) -> list[str]:
    """Return the faults that a verification finds in files."""
    raws = (
        RawLine(path, number, line)
        for path in paths
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
    )
    return [str(fault) for fault in Verification(**options).verify(raws)]
