"""The reader: lines of the audit file, of rotated files, and of a file while it is written."""

from __future__ import annotations

import gzip
import heapq
import os
import re
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from glob import escape
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

from pexpolicy.audit.rotation import first_time, rotated
from pexpolicy.audit.targets import LINE_START, decoded, tail_of
from pexpolicy.text import printable

MAX_OPEN = 200
"""Files that are open at a time."""
FOLLOW_INTERVAL_S = 0.2
"""Between two reads of a file that is followed."""
LONGEST = 1 << 14
"""Bytes of a long line: ``last_lines`` reads as many for each line."""
FOLLOW_BLOCK = 1 << 22
"""Bytes of a followed file that are read at a time."""
PEERS_WINDOW = 1 << 22
"""Bytes at the end of a file that ``recent_peers`` searches, which takes some 10 ms."""
_NOT_AUDIT = re.compile(r"\.(lock|spool|shipped)$")
_PEER = re.compile(
    rb'"event":"decision","decision_id":"[0-9a-f-]{36}","endpoint":"[a-z_]+","peer":"([^"\\]{2,64})"'
)
_OLDEST = datetime.min.replace(tzinfo=UTC)


class RawLine(NamedTuple):
    """A line of a file, without its line end; ``terminated`` if it had one.

    ``number`` is 0 where the file was not read from its beginning.

    ``damage``: why a compressed file could not be read further, in place of a line.
    """

    path: Path
    number: int
    content: bytes
    terminated: bool = True
    damage: str = ""

    @property
    def place(self) -> str:
        """File and line number, for people."""
        return printable(self.path) + (f":{self.number}" if self.number else "")


class Record(NamedTuple):
    """A line that was parsed."""

    raw: RawLine
    event: dict[str, Any]


class Fault(NamedTuple):
    """What is wrong, such as text that is not an audit line, and its place."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def file_and_rotated(path: Path) -> list[Path]:
    """Return a file and those rotated from it by us or by logrotate, the oldest lines first.

    The names of our own are in the order of the lines, whatever the clock was.
    """
    own, last = rotated(path), [path] if path.is_file() else []
    others = {
        other
        for mark in (".", "-")
        for other in path.parent.glob(f"{escape(path.name)}{mark}*")
        if not _NOT_AUDIT.search(other.name) and other.is_file()
    }.difference(own)
    found = [*own, *last]
    if others:
        found += others
        found.sort(key=lambda one: (_first_time(one), one == path, one.name))
    return found


def _first_time(path: Path) -> datetime:
    """Return the time of the first line; a file that cannot be read sorts first."""
    with suppress(OSError, EOFError, zlib.error), open_file(path) as file:
        return first_time(file) or _OLDEST
    return _OLDEST


def open_file(path: Path) -> IO[bytes]:
    """Open a file, decompressed if its name ends in .gz. Raises ``OSError``."""
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]  # it reads bytes like any file
    return path.open("rb")


def raw_lines(paths: Iterable[Path]) -> Iterator[RawLine]:
    """Yield the lines of files, in order; raises ``OSError``. The first and last files are opened
    before any is read: rotation renames the last one and removes the first ones meanwhile.
    """
    files = list(paths)
    with ExitStack() as stack:
        ends = (*files[: MAX_OPEN // 2], *files[-MAX_OPEN // 2 :])
        opened = {path: stack.enter_context(open_file(path)) for path in dict.fromkeys(ends)}
        for path in files:
            with opened.pop(path, None) or open_file(path) as file:
                yield from _lines_of(path, file)


def _lines_of(path: Path, file: IO[bytes]) -> Iterator[RawLine]:
    number = 0
    try:
        for number, line in enumerate(file, 1):
            terminated = line.endswith(b"\n")
            yield RawLine(path, number, line[:-1] if terminated else line, terminated)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        damage = f"it is no gzip file, or damaged from here on: {error}"
        yield RawLine(path, number + 1, b"", terminated=False, damage=damage)


def read(raw: RawLine) -> Iterator[Record | Fault]:
    """Yield the record in a line, the damage, or both where another line follows a torn one.

    A line of blanks is neither: a writer overwrites its torn lines with them.
    """
    content = raw.content
    if raw.damage:
        yield Fault(raw.place, raw.damage)
        return
    if not content.strip(b" "):
        return
    event = _decode(content)
    if event is None and (start := content.rfind(LINE_START)) > 0:
        event = _decode(content[start:])
        if event is not None:
            yield Fault(raw.place, f"{start} bytes of a torn line before another line")
            yield Record(raw._replace(content=content[start:]), event)
            return
    if event is None:
        torn = "a torn line" if content.startswith(LINE_START[:8]) else "not an audit line"
        yield Fault(raw.place, f"{torn} ({len(content)} bytes)")
        return
    if not raw.terminated:
        yield Fault(raw.place, "the last line has no line end")
    yield Record(raw, event)


def _decode(content: bytes) -> dict[str, Any] | None:
    event = decoded(content)
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def records(lines: Iterable[RawLine]) -> Iterator[Record | Fault]:
    """Yield the records in lines, and the damage between them."""
    return chain.from_iterable(map(read, lines))


def last_lines(path: Path, count: int) -> list[RawLine]:
    """Return the last ``count`` lines of a file; those of a large one have no number."""
    with open_file(path) as file:
        start = 0
        if path.suffix != ".gz":
            start = max(0, os.fstat(file.fileno()).st_size - (count + 1) * LONGEST)
        if start:
            file.seek(start)
            file.readline()
        found = deque(_lines_of(path, file), count)
    return [raw._replace(number=0) if start else raw for raw in found]


def merged(paths: Sequence[Path]) -> Iterator[Record | Fault]:
    """Yield the records of files by their time, and damage where it is."""

    def timed(path: Path) -> Iterator[tuple[datetime, Record | Fault]]:
        at = _OLDEST
        for item in records(raw_lines([path])):
            if isinstance(item, Record):
                at = max(at, time_of(item.event) or at)
            yield at, item

    return (item for _, item in heapq.merge(*map(timed, paths), key=itemgetter(0)))


def time_of(event: Mapping[str, Any]) -> datetime | None:
    """Return the time of a line; ``None`` if it has none."""
    try:
        at = datetime.fromisoformat(event["timestamp"])
    except (KeyError, TypeError, ValueError):
        return None
    # One that we did not write: our times are in UTC too.
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def follow(path: Path, should_continue: Callable[[], bool] = lambda: True) -> Iterator[RawLine]:
    """Yield the lines that are appended to a file from now on, across rotations and truncations.

    One of several writers rotates; the others write to the old file for up to a second: it is read
    until the next rotation.
    """
    files = [Followed(path, path.open("rb"))]
    files[0].file.seek(0, os.SEEK_END)
    try:
        while should_continue():
            if found := [raw for one in files for raw in one.new_lines()]:
                yield from found
            elif (newer := _replaced(files[-1].file, path)) is not None:
                files.append(Followed(path, newer))
                if len(files) > 2:  # noqa: PLR2004 - the old and the new one
                    files.pop(0).file.close()
            else:
                files[-1].restart_if_truncated()
                time.sleep(FOLLOW_INTERVAL_S)
    finally:
        for one in files:
            one.file.close()


class Followed:
    """A file that is read as it grows."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.file = file
        self._path = path
        self._rest = b""

    def new_lines(self) -> list[RawLine]:
        """Return the next lines that are complete; those of a damaged file end before that."""
        with suppress(gzip.BadGzipFile, EOFError, zlib.error):
            self._rest += self.file.read(FOLLOW_BLOCK)
        *lines, self._rest = self._rest.split(b"\n")
        return [RawLine(self._path, 0, line) for line in lines]

    def restart_if_truncated(self) -> None:
        """Read from the beginning if the file is shorter than what was read."""
        if os.fstat(self.file.fileno()).st_size < self.file.tell():
            self.file.seek(0)
            self._rest = b""


def _replaced(file: IO[bytes], path: Path) -> IO[bytes] | None:
    """Return the file at the path if it is another one."""
    with suppress(OSError):
        if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return path.open("rb")
    return None


def recent_peers(path: Path) -> set[str]:
    """Return the peers of the last decisions; empty if the file cannot be read."""
    contents = (tail_of(file, PEERS_WINDOW) for file in (*rotated(path)[-1:], path))
    return {peer.decode("ascii", "replace") for one in contents for peer in _PEER.findall(one)}
