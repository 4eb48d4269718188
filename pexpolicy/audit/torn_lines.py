"""Taking back half lines: a server that is killed while it writes may leave one.

Linux ends the write of a process that gets SIGKILL between two pages of the file. The reply of such
a call has not left, so nothing is missing from the record; but half a line is no JSON, and the line
of another writer may stand right behind it. Half a line is overwritten with blanks, which readers
of JSON lines skip, also before a line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

BEGINNING = b'{"timestamp":"'
"""How each line begins."""
SEALED = re.compile(rb',"hash":"[0-9a-f]{64}"\}\Z')
SEAL = b',"hash":"'
SEAL_SIZE = len(SEAL) + 64 + len('"}')
"""How each line ends. One that ends so and cannot be read was damaged otherwise, and is left as it
is for whoever looks into it.
"""
WINDOW = 1 << 24
"""Bytes at the end of a file that are looked at: what other writers write in two seconds under the
highest load. To look takes 40 ms.
"""
BLOCK = 512
"""Where a write may have been ended: the least block of any file system. A page is a multiple of
it. What ends elsewhere is somebody else's text.
"""


def end_last_line(descriptor: int) -> None:
    """See to it that the next line does not stand behind half a one; raises ``OSError``."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")


def repair_torn_lines(descriptor: int) -> None:
    """Blank the half lines at the end of a file that is open for reading and appending.

    Raises ``OSError``; what was blanked by then stays so.
    """
    # The line end stands behind every write that is under way: what is before it is finished,
    # whoever wrote it.
    end_last_line(descriptor)
    size = os.fstat(descriptor).st_size
    start = max(0, size - WINDOW)
    content = os.pread(descriptor, size - start, start)
    for first, end in _halves(content, inside=start > 0):
        if (start + end) % BLOCK == 0:
            overwrite(descriptor, start + first, b" " * (end - first))


def mend_file(path: Path) -> None:
    """The same for a file that is not open; one that cannot be opened is left alone."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            repair_torn_lines(descriptor)
        finally:
            os.close(descriptor)


def overwrite(descriptor: int, at: int, content: bytes) -> None:
    """Write at a place in a file that is open for appending; raises ``OSError``."""
    # Of its own: what is written through a descriptor that appends goes to the end.
    other = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(other, content, at)
    finally:
        os.close(other)


def _halves(content: bytes, *, inside: bool) -> Iterator[tuple[int, int]]:
    """Where half lines begin and end, the ends of lines left out.

    ``inside``: the content begins somewhere in a line. What has no end yet is being written.
    """
    first = content.find(b"\n") + 1 if inside else 0
    for line in content[first:].split(b"\n")[:-1]:
        if line:
            yield from ((first, first + end) for end in _end_of_half(line))
        first += len(line) + 1


def _end_of_half(line: bytes) -> Iterator[int]:
    """Where the half ends that a line begins with, if it does."""
    behind = line.startswith(SEAL, max(len(line) - SEAL_SIZE, 0)) and line.endswith(b'"}')
    if behind and line.startswith(BEGINNING) and line.find(BEGINNING, 1) < 0:
        return  # nearly all are such, and there are many of them
    other = line.rfind(BEGINNING)
    if SEALED.search(line):
        if other > 0 and _begins(line[:other]) and _is_whole(line[other:]) and not _is_whole(line):
            yield other
    elif _begins(line) and not _is_whole(line):
        yield len(line)


def _begins(half: bytes) -> bool:
    return half.startswith(BEGINNING) or BEGINNING.startswith(half)


def _is_whole(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
