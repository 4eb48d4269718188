"""Repair of torn lines, which a server leaves when it is killed while it writes.

Linux ends the write of a process that gets SIGKILL between two pages of the file. The reply of such
a call has not been sent, so nothing is missing from the record. But a torn line is not JSON, and
the line of another writer may follow it immediately. A torn line is overwritten with blanks, which
readers of JSON lines skip, also before a line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from pexpolicy.config.files import open_own

LINE_START = b'{"timestamp":"'
"""The start of each line."""
CHAINED = re.compile(rb',"hash":"[0-9a-f]{64}"\}\Z')
"""The end of each line. A line that ends so and is not JSON has other damage and is not changed, so
that it can be examined.
"""
HASH_KEY = b',"hash":"'
HASH_SIZE = len(HASH_KEY) + 64 + len('"}')
"""Bytes of that end."""
WINDOW = 1 << 24
"""Bytes at the end of a file that are searched: more than is written in two seconds."""
BLOCK = 512
"""The smallest block of a file system. A killed write ends at a multiple of a page, and so of this;
text that ends elsewhere was not torn by us.
"""


def terminate_last_line(descriptor: int) -> None:
    """Append a line end if the last line has none; raises ``OSError``."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")


def repair_torn_lines(descriptor: int) -> None:
    """Overwrite torn lines near the end of a file that is open for reading and appending.

    Raises ``OSError``; lines blanked before that stay blanked.
    """
    # A line end that is appended now follows every write in progress: all before it is complete.
    terminate_last_line(descriptor)
    size = os.fstat(descriptor).st_size
    start = max(0, size - WINDOW)
    content = os.pread(descriptor, size - start, start)
    for first, end in _torn_ranges(content, inside=start > 0):
        if (start + end) % BLOCK == 0:
            overwrite(descriptor, start + first, b" " * (end - first))


def repair_file(path: Path) -> None:
    """Do the same for a file that is not open; skip one that cannot be opened."""
    with suppress(OSError), os.fdopen(open_own(path, os.O_RDWR | os.O_APPEND), "rb") as file:
        repair_torn_lines(file.fileno())


def overwrite(descriptor: int, at: int, content: bytes) -> None:
    """Write at an offset of a file that is open for appending; raises ``OSError``."""
    # A descriptor with O_APPEND always writes at the end, so this needs another one.
    other = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(other, content, at)
    finally:
        os.close(other)


def _torn_ranges(content: bytes, *, inside: bool) -> Iterator[tuple[int, int]]:
    """Yield the offsets at which torn lines begin and end, without their line ends.

    ``inside``: the content may begin within a line. Text after the last line end is still being
    written.
    """
    first = content.find(b"\n") + 1 if inside else 0
    for line in content[first:].split(b"\n")[:-1]:
        if line:
            yield from ((first, first + end) for end in _torn_end(line))
        first += len(line) + 1


def _torn_end(line: bytes) -> Iterator[int]:
    """Yield the end of the torn line at the start of ``line``, if there is one."""
    is_chained = line.startswith(HASH_KEY, max(len(line) - HASH_SIZE, 0)) and line.endswith(b'"}')
    if is_chained and line.startswith(LINE_START) and line.find(LINE_START, 1) < 0:
        return  # fast path for nearly all lines
    other = line.rfind(LINE_START)
    if CHAINED.search(line):
        is_torn = other > 0 and _begins(line[:other]) and decoded(line[other:]) is not None
        if is_torn and decoded(line) is None:
            yield other
    elif _begins(line) and decoded(line) is None:
        yield len(line)


def _begins(text: bytes) -> bool:
    return text.startswith(LINE_START) or LINE_START.startswith(text)


def decoded(line: bytes, decode: Callable[[bytes], Any] = msgspec.json.decode) -> Any:
    """Return the JSON in a line; ``None`` where there is none."""
    try:
        if not line.isascii():
            line.decode()  # msgspec does not check the encoding of values that it skips
        return decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
