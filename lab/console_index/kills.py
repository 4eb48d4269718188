"""An index whose writer is killed while the audit is written and rotated."""

import gzip
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Self

from lab.console_index import generated_audit
from pexpolicy_console.index.writer import IndexWriter, segments

SEGMENT_LINES = 2_500
CHUNK = 400_000
"""Bytes that are read at once: small, so that there are many moments between two."""
MAX_LIFE_S = 0.8
"""After the start, of a writer that is killed."""
FILE_LINES = 2_000
"""Lines after which the audit is rotated."""
PROGRAM = f"""
import sys
from pathlib import Path
from pexpolicy_console.index import audit_files
audit_files.CHUNK = {CHUNK}
from pexpolicy_console.index.writer import IndexWriter
writer = IndexWriter(Path(sys.argv[1]), Path(sys.argv[2]), 1 << 40, {SEGMENT_LINES})
print("started", flush=True)
while True:
    writer.step()
"""


class AuditTraffic:
    """Writes an audit in a thread, and rotates and compresses it as logrotate does."""

    def __init__(self, audit: Path, count: int, seed: int) -> None:
        self._audit = audit
        self._lines = generated_audit.lines(count, seed)
        self._chosen = random.Random(seed)
        self._thread = threading.Thread(target=self._run)
        self.files = 0
        self.may_end = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.may_end.set()
        self._thread.join()

    def _run(self) -> None:
        while block := list(islice(self._lines, FILE_LINES)):
            self._write(block)
            self.files += 1
            rotated = self._audit.with_name(f"{self._audit.name}.{self.files:06}")
            self._audit.rename(rotated)
            if self._chosen.random() < 0.5:
                packed = rotated.with_name(f"{rotated.name}.gz")
                with gzip.open(packed, "wb", compresslevel=1) as file:
                    file.write(rotated.read_bytes())
                rotated.unlink()

    def _write(self, block: list[bytes]) -> None:
        """Append lines, some of them in two parts."""
        with self._audit.open("ab", buffering=0) as file:
            while block:
                number = self._chosen.randrange(1, 60)
                part, block = b"".join(block[:number]), block[number:]
                cut = self._chosen.randrange(len(part))
                file.write(part[:cut])
                file.write(part[cut:])
                # Spread over the kills; without any more of them, at full speed.
                self.may_end.wait(self._chosen.random() * 0.01)


def kill(folder: Path, audit: Path, kills: int, seed: int) -> None:
    """Kill a writer of the index at so many random moments."""
    chosen = random.Random(seed)
    command = (sys.executable, "-c", PROGRAM, str(folder), str(audit))
    for _ in range(kills):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            threading.Event().wait(chosen.random() ** 2 * MAX_LIFE_S)
            assert process.poll() is None, "the writer of the index ended by itself"
            os.kill(process.pid, signal.SIGKILL)


def indexed(folder: Path, audit: Path) -> IndexWriter:
    """Bring an index up to date."""
    writer = IndexWriter(folder, audit, 1 << 40, SEGMENT_LINES)
    while writer.step():
        pass
    writer.close()
    return writer


def lines_in(path: Path) -> int:
    """Return the number of lines in a segment; none in one whose writer was killed at its start."""
    with closing(sqlite3.connect(path)) as base:
        if not base.execute("SELECT 1 FROM sqlite_master WHERE name = 'line'").fetchone():
            return 0
        count: int = base.execute("SELECT count(*) FROM line").fetchone()[0]
        return count


Row = tuple[Any, ...]


def content(folder: Path) -> tuple[list[Row], Counter[Row]]:
    """Return what an index has, in whatever segments: each line with its words, sorted, and the
    counts by minute. Raises ``AssertionError`` if numbers of lines are missing or repeated.
    """
    rows: list[Row] = []
    minutes: Counter[Row] = Counter()
    numbers: list[int] = []
    for path in segments(folder):
        with closing(sqlite3.connect(path)) as base:
            (state,) = base.execute("PRAGMA integrity_check").fetchone()
            assert state == "ok", f"{path.name}: {state}"
            for number, *row in _rows(base):
                numbers.append(number)
                rows.append(tuple(row))
            for *key, count in base.execute("SELECT * FROM minute"):
                minutes[tuple(key)] += count
    assert numbers == list(range(1, len(numbers) + 1))
    return sorted(rows), minutes


def _rows(base: sqlite3.Connection) -> Iterator[Row]:
    """Yield the number of each line, and what the index has of it."""
    base.execute("CREATE VIRTUAL TABLE temp.term USING fts5vocab('main', 'word', 'instance')")
    words: dict[int, list[str]] = {}
    for term, number in base.execute("SELECT term, doc FROM temp.term ORDER BY term"):
        words.setdefault(number, []).append(term)
    for number, *named, at, head, offset, size, us, tail in base.execute(
        "SELECT line.id, event, endpoint, action, decided_by, reason, node, at, head, offset, "
        "size, us, tail FROM line JOIN file ON file.id = line.file ORDER BY line.id"
    ):
        yield number, head, offset, size, at, us, tail, *named, " ".join(words[number])


def run(folder: Path, kills: int, lines: int, seed: int = 1) -> str:
    """Compare an index that was killed with one that was not; return what was done."""
    audit = folder / "audit.jsonl"
    killed, whole = folder / "killed", folder / "whole"
    with AuditTraffic(audit, lines, seed) as traffic:
        kill(killed, audit, kills, seed)
    before = sum(map(lines_in, segments(killed)))
    indexed(killed, audit)
    indexed(whole, audit)
    found, expected = content(killed), content(whole)
    assert len(expected[0]) == lines
    assert found == expected, "the index that was killed has another content"
    return (
        f"{kills} kills while {lines:,} lines were written in {traffic.files} files, "
        f"{before:,} of them indexed at the last kill: the same index as without kills"
    )
