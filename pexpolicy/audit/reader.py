"""Reading the lines again: from the file, from rotated ones, and while they are written."""

from __future__ import annotations

import gzip
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from pexpolicy.audit.append_file import BLOCK
from pexpolicy.audit.torn_lines import BEGINNING

PAUSE = 0.2
"""Seconds between two looks at a file that is followed."""
READ = 1 << 20
"""Bytes that are counted through at once."""
_FOREIGN = re.compile(r"\.(lock|spool|new)$")
_OLDEST = datetime.min.replace(tzinfo=UTC)


class RawLine(NamedTuple):
    """A line as it stands in a file, without its end; ``ended`` where it had one."""

    path: Path
    number: int
    content: bytes
    ended: bool = True

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.path}:{self.number}"


class Record(NamedTuple):
    """A line that could be read."""

    raw: RawLine
    event: dict[str, Any]


class CorruptLine(NamedTuple):
    """What stands in a file and is no line of the audit."""

    raw: RawLine
    text: str

    def __str__(self) -> str:
        return f"{self.raw.place}: {self.text}"


def family(path: Path) -> list[Path]:
    """A file and what was rotated away from it, by us or by logrotate, the oldest lines first."""
    found = [
        beside
        for mark in (".", "-")
        for beside in path.parent.glob(f"{path.name}{mark}*")
        if not _FOREIGN.search(beside.name) and beside.is_file()
    ]
    if path.is_file():
        found.append(path)
    return sorted(found, key=lambda one: (_first_time(one), one == path, one.name))


def _first_time(path: Path) -> datetime:
    """The time of the first line that can be read; a file without one comes first."""
    with suppress(OSError):
        for raw in raw_lines([path]):
            if (match := re.search(rb'\{"timestamp":"([^"]{10,40})"', raw.content)) is not None:
                with suppress(ValueError):
                    found = datetime.fromisoformat(match[1].decode("ascii", "replace"))
                    return found if found.tzinfo is not None else _OLDEST
    return _OLDEST


def _opened(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]  # it reads bytes like any other
    return path.open("rb")


def raw_lines(paths: Iterable[Path]) -> Iterator[RawLine]:
    """The lines of files, one after the other."""
    for path in paths:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                ended = line.endswith(b"\n")
                yield RawLine(path, number, line[:-1] if ended else line, ended)


def read(raw: RawLine) -> Iterator[Record | CorruptLine]:
    """What stands in a line: a record, damage, or both: half a line that another one follows.

    Blanks alone are neither; a writer leaves them where it took back half a line of its own.
    """
    content = raw.content
    if not content.strip(b" "):
        return
    event = _decoded(content)
    if event is None and (start := content.rfind(BEGINNING)) > 0:
        whole = raw._replace(content=content[start:])
        event = _decoded(whole.content)
        if event is not None:
            yield CorruptLine(raw, f"{start} bytes of a torn line before another line")
            yield Record(whole, event)
            return
    if event is None:
        torn = "a torn line" if content.startswith(BEGINNING[:8]) else "no line of an audit"
        yield CorruptLine(raw, f"{torn} ({len(content)} bytes)")
        return
    if not raw.ended:
        yield CorruptLine(raw, "the last line has no end")
    yield Record(raw, event)


def _decoded(content: bytes) -> dict[str, Any] | None:
    try:
        event = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def records(paths: Iterable[Path]) -> Iterator[Record | CorruptLine]:
    """The records of files, with what is damaged between them."""
    for raw in raw_lines(paths):
        yield from read(raw)


def last(path: Path, count: int) -> list[RawLine]:
    """The last lines of a file, read from its end."""
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
        found = list(_placed(path, file, start, lines))
        if rest:
            found += _placed(path, file, end - len(rest), [rest], ended=False)
    return found[-count:]


def follow(path: Path, goes_on: Callable[[], bool] = lambda: True) -> Iterator[RawLine]:
    """The lines that are added to a file from now on, across its rotations."""
    file: IO[bytes] = path.open("rb")
    at = file.seek(0, 2)
    rest = b""
    try:
        while goes_on():
            rest += file.read()
            *lines, rest = rest.split(b"\n")
            yield from _placed(path, file, at, lines)
            at += sum(len(line) + 1 for line in lines)
            if lines:
                continue
            if (newer := _replaced(file, path)) is not None:
                # What was written between the last look and the change is still to come.
                rest += file.read()
                *lines, _ = rest.split(b"\n")
                yield from _placed(path, file, at, lines)
                file.close()
                file, rest, at = newer, b"", 0
            else:
                time.sleep(PAUSE)
    finally:
        file.close()


def _placed(
    path: Path, file: IO[bytes], start: int, lines: Iterable[bytes], *, ended: bool = True
) -> Iterator[RawLine]:
    """Lines of a file that was not read from its beginning. Their numbers are found by reading all
    that is before them: only where something is wrong, and the number will be said.
    """
    for line in lines:
        sound = ended and _decoded(line) is not None
        yield RawLine(path, 0 if sound else 1 + _ends(file, start), line, ended)
        start += len(line) + 1


def _ends(file: IO[bytes], before: int) -> int:
    """How many lines end before a place."""
    count = at = 0
    while at < before and (block := os.pread(file.fileno(), min(READ, before - at), at)):
        count += block.count(b"\n")
        at += len(block)
    return count


def _replaced(file: IO[bytes], path: Path) -> IO[bytes] | None:
    """The file that the path leads to, where it is another one."""
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
