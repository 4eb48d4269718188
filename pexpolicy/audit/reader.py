"""The reader: lines of the audit file, of rotated files, and of a file while it is written."""

from __future__ import annotations

import gzip
import math
import os
import re
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from pexpolicy.audit.rotation import rotated
from pexpolicy.audit.targets import BLOCK
from pexpolicy.audit.torn_lines import LINE_START
from pexpolicy.text import printable

MAX_OPEN = 200
"""Files that are open at a time."""
FOLLOW_INTERVAL_S = 0.2
"""Between two reads of a file that is followed."""
OLD_FILE_S = 3.0
"""How long a file that was rotated is followed."""
COUNT_BLOCK = 1 << 20
"""Bytes read at a time to count lines."""
PEERS_WINDOW = 1 << 23
"""Bytes at the end of the file that ``recent_peers`` searches, which takes some 20 ms."""
_NOT_AUDIT = re.compile(r"\.(lock|spool|new)$")
_PEER = re.compile(
    rb'"event":"decision","decision_id":"[0-9a-f-]{36}","endpoint":"[a-z_]+","peer":"([^"\\]{2,64})"'
)
_OLDEST = datetime.min.replace(tzinfo=UTC)


class RawLine(NamedTuple):
    """A line of a file, without its line end; ``terminated`` if it had one.

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
        return f"{printable(self.path)}:{self.number}"


class Record(NamedTuple):
    """A line that was parsed."""

    raw: RawLine
    event: dict[str, Any]


class CorruptLine(NamedTuple):
    """Text in a file that is not an audit line."""

    raw: RawLine
    text: str

    def __str__(self) -> str:
        return f"{self.raw.place}: {self.text}"


def file_and_rotated(path: Path) -> list[Path]:
    """Return a file and those rotated from it by us or by logrotate, the oldest lines first.

    The names of our own are in the order of the lines, whatever the clock was.
    """
    found = [
        other
        for mark in (".", "-")
        for other in path.parent.glob(f"{escape(path.name)}{mark}*")
        if not _NOT_AUDIT.search(other.name) and other.is_file()
    ]
    own = rotated(path)
    is_own = set(found) == set(own)
    if path.is_file():
        found.append(path)
        own.append(path)
    if is_own:
        return own
    return sorted(found, key=lambda one: (_first_time(one), one == path, one.name))


def _first_time(path: Path) -> datetime:
    """Return the time of the first line that has one; a file without any sorts first."""
    with suppress(OSError):
        for raw in raw_lines([path]):
            if (match := re.search(rb'\{"timestamp":"([^"]{10,40})"', raw.content)) is not None:
                with suppress(ValueError):
                    found = datetime.fromisoformat(match[1].decode("ascii", "replace"))
                    return found if found.tzinfo is not None else _OLDEST
    return _OLDEST


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]  # it reads bytes like any file
    return path.open("rb")


def raw_lines(paths: Iterable[Path]) -> Iterator[RawLine]:
    """Yield the lines of files, in order; raises ``OSError``. The first and last files are opened
    before any is read: rotation renames the last one and removes the first ones meanwhile.
    """
    files = list(paths)
    ends = dict.fromkeys((*files[: MAX_OPEN // 2], *files[-MAX_OPEN // 2 :]))
    with ExitStack() as stack:
        opened = {path: stack.enter_context(_open(path)) for path in ends}
        for path in files:
            with opened.pop(path, None) or _open(path) as file:
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


def read(raw: RawLine) -> Iterator[Record | CorruptLine]:
    """Yield the record in a line, the damage, or both where another line follows a torn one.

    A line of blanks is neither: a writer overwrites its torn lines with them.
    """
    content = raw.content
    if raw.damage:
        yield CorruptLine(raw, raw.damage)
        return
    if not content.strip(b" "):
        return
    event = _decode(content)
    if event is None and (start := content.rfind(LINE_START)) > 0:
        whole = raw._replace(content=content[start:])
        event = _decode(whole.content)
        if event is not None:
            yield CorruptLine(raw, f"{start} bytes of a torn line before another line")
            yield Record(whole, event)
            return
    if event is None:
        torn = "a torn line" if content.startswith(LINE_START[:8]) else "not an audit line"
        yield CorruptLine(raw, f"{torn} ({len(content)} bytes)")
        return
    if not raw.terminated:
        yield CorruptLine(raw, "the last line has no line end")
    yield Record(raw, event)


def _decode(content: bytes) -> dict[str, Any] | None:
    try:
        event = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def records(paths: Iterable[Path]) -> Iterator[Record | CorruptLine]:
    """Yield the records of files, and the damage between them."""
    for raw in raw_lines(paths):
        yield from read(raw)


def last_lines(path: Path, count: int) -> list[RawLine]:
    """Return the last ``count`` lines of a file, read from its end."""
    if count < 1:
        return []
    with path.open("rb") as file:
        end = start = file.seek(0, 2)
        content = b""
        while start > 0 and content.count(b"\n") <= count:
            start = max(0, end - 2 * max(len(content), BLOCK))
            file.seek(start)
            content = file.read(end - start)
        *lines, rest = content.split(b"\n")
        found = list(_numbered(path, file, start, lines))
        if rest:
            found += _numbered(path, file, end - len(rest), [rest], terminated=False)
    return found[-count:]


def last_lines_of(paths: Sequence[Path], count: int) -> list[RawLine]:
    """Return the last ``count`` lines of files, the oldest lines of which are in the first one."""
    found: list[RawLine] = []
    for path in reversed(paths):
        if (left := count - len(found)) < 1:
            break
        is_packed = path.suffix == ".gz"
        before = deque(raw_lines([path]), left) if is_packed else last_lines(path, left)
        found = [*before, *found]
    return found


def follow(path: Path, should_continue: Callable[[], bool] = lambda: True) -> Iterator[RawLine]:
    """Yield the lines that are appended to a file from now on, across rotations and truncations.

    One of several writers rotates; the others write to the old file for up to a second.
    """
    file: IO[bytes] = path.open("rb")
    files = [current := _Followed(path, file, file.seek(0, 2))]
    try:
        while should_continue():
            if found := [raw for one in files for raw in one.new_lines()]:
                yield from found
            elif (newer := _replaced(current.file, path)) is not None:
                current.until = time.monotonic() + OLD_FILE_S
                current = _Followed(path, newer, 0)
                files.append(current)
            else:
                current.restart_if_truncated()
                time.sleep(FOLLOW_INTERVAL_S)
            for old in [one for one in files if one.until < time.monotonic()]:
                files.remove(old)
                old.file.close()
    finally:
        for one in files:
            one.file.close()


class _Followed:
    """A file that is read as it grows, from ``at`` on."""

    def __init__(self, path: Path, file: IO[bytes], at: int) -> None:
        self.file = file
        self.until = math.inf
        self._path = path
        self._at = at
        self._rest = b""

    def new_lines(self) -> list[RawLine]:
        """Return the lines that were completed since the last call."""
        self._rest += self.file.read()
        *lines, self._rest = self._rest.split(b"\n")
        found = list(_numbered(self._path, self.file, self._at, lines))
        self._at += sum(len(line) + 1 for line in lines)
        return found

    def restart_if_truncated(self) -> None:
        """Read from the beginning if the file is shorter than what was read."""
        if os.fstat(self.file.fileno()).st_size < self._at + len(self._rest):
            self._at, self._rest = self.file.seek(0), b""


def _numbered(
    path: Path, file: IO[bytes], start: int, lines: Iterable[bytes], *, terminated: bool = True
) -> Iterator[RawLine]:
    """Yield lines of a file that was not read from its beginning.

    Only damaged lines get their number, for messages: all bytes before them are read to count it.
    """
    for line in lines:
        valid = terminated and _decode(line) is not None
        yield RawLine(path, 0 if valid else 1 + _count_lines(file, start), line, terminated)
        start += len(line) + 1


def _count_lines(file: IO[bytes], before: int) -> int:
    """Return the number of line ends before an offset."""
    count = at = 0
    while at < before and (block := os.pread(file.fileno(), min(COUNT_BLOCK, before - at), at)):
        count += block.count(b"\n")
        at += len(block)
    return count


def _replaced(file: IO[bytes], path: Path) -> IO[bytes] | None:
    """Return the file at the path if it is another one."""
    try:
        newer = path.open("rb")
    except OSError:
        return None
    ours, theirs = _identity(file), _identity(newer)
    if ours == theirs:
        newer.close()
        return None
    return newer


def _identity(file: IO[bytes]) -> tuple[int, int]:
    known = os.fstat(file.fileno())
    return known.st_dev, known.st_ino


def recent_peers(path: Path) -> set[str]:
    """Return the peers of the last decisions; empty if the file cannot be read."""
    return {peer.decode("ascii", "replace") for peer in _recent_peers(path)}


def _recent_peers(path: Path) -> Iterator[bytes]:
    left = PEERS_WINDOW
    for file in (path, *rotated(path)[-1:]):
        with suppress(OSError):
            descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                start = max(os.fstat(descriptor).st_size - left, 0)
                content = os.pread(descriptor, left, start)
            finally:
                os.close(descriptor)
            left -= len(content)
            yield from _PEER.findall(content)
        if left <= 0:
            return
