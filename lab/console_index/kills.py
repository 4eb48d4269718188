"""An index whose writer is killed while the audit is written and rotated."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from lab.console_index import generated_audit
from pexpolicy_console.index.reader import KINDS, IndexReader
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


def write_audit(audit: Path, count: int, seed: int, may_end: threading.Event) -> None:
    """Write an audit, some of its lines in two parts, and rotate and compress it as logrotate does:
    spread over the kills, and at full speed when it ``may_end``.
    """
    lines, chosen = generated_audit.lines(count, seed), random.Random(seed)
    for number in range(-(-count // FILE_LINES)):
        block = list(islice(lines, FILE_LINES))
        with audit.open("ab", buffering=0) as file:
            while block:
                size = chosen.randrange(1, 60)
                part, block = b"".join(block[:size]), block[size:]
                cut = chosen.randrange(len(part))
                file.write(part[:cut])
                file.write(part[cut:])
                may_end.wait(chosen.random() * 0.01)
        generated_audit.rotate(audit, number + 1, compressed=chosen.random() < 0.5)


def kill(folder: Path, audit: Path, kills: int, seed: int) -> None:
    """Kill a writer of the index at so many random moments."""
    chosen = random.Random(seed)
    command = (sys.executable, "-c", PROGRAM, str(folder), str(audit))
    for _ in range(kills):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chosen.random() ** 2 * MAX_LIFE_S)
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
    counts of steps by minute, and of calls. Raises ``AssertionError`` if numbers of lines are
    missing or repeated.
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
            names = dict(base.execute("SELECT id, text FROM name"))
            for at, *named, bucket, count in base.execute("SELECT * FROM minute"):
                minutes[at, *(names[one] for one in named), bucket] += count
    assert numbers == list(range(1, len(numbers) + 1))
    reader = IndexReader(folder, folder / "audit.jsonl", clock=lambda: 0.0)
    for kind in KINDS:
        (found,) = reader.tallies(kind, (0, 1 << 50))
        minutes.update({(kind, name, *one.counts): one.last for name, one in found.items()})
    return sorted(rows), minutes


def _rows(base: sqlite3.Connection) -> Iterator[Row]:
    """Yield the number of each line, and what the index has of it."""
    base.execute("CREATE VIRTUAL TABLE temp.term USING fts5vocab('main', 'word', 'instance')")
    words: dict[int, list[str]] = {}
    for term, number in base.execute("SELECT term, doc FROM temp.term ORDER BY term"):
        words.setdefault(number, []).append(term)
    names = dict(base.execute("SELECT id, text FROM name"))
    for number, *named, at, head, offset, size, us, tail in base.execute(
        "SELECT line.id, event, endpoint, action, decided_by, reason, node, at, head, offset, "
        "size, us, tail FROM line JOIN file ON file.id = line.file ORDER BY line.id"
    ):
        texts = [names[one] for one in named]
        yield number, head, offset, size, at, us, tail, *texts, " ".join(words[number])


def run(folder: Path, kills: int, lines: int, seed: int = 1) -> str:
    """Compare an index that was killed with one that was not; return what was done."""
    audit = folder / "audit.jsonl"
    killed, whole = folder / "killed", folder / "whole"
    may_end = threading.Event()
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write_audit, audit, lines, seed, may_end)
        try:
            kill(killed, audit, kills, seed)
        finally:
            may_end.set()
        writing.result()
    before = sum(map(lines_in, segments(killed)))
    indexed(killed, audit)
    indexed(whole, audit)
    found, expected = content(killed), content(whole)
    assert len(expected[0]) == lines
    assert found == expected, "the index that was killed has another content"
    return (
        f"{kills} kills while {lines:,} lines were written in files of {FILE_LINES:,}, "
        f"{before:,} of them indexed at the last kill: the same index as without kills"
    )
