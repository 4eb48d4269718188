"""Random changes to audit files, of the kinds that hide something."""

import random
from collections.abc import Callable, Sequence

Segments = list[list[bytes]]
Edit = Callable[[Segments, random.Random], str]


def flip(segments: Segments, rng: random.Random) -> str:
    line, lines = _pick(segments, rng)
    at, bit = rng.randrange(len(lines[line])), 1 << rng.randrange(8)
    changed = bytearray(lines[line])
    changed[at] ^= bit
    lines[line] = bytes(changed)
    return f"bit {bit} of byte {at}"


def delete(segments: Segments, rng: random.Random) -> str:
    """Remove a line that is not the last of its chain."""
    line, lines = _pick(segments, rng, ends=False)
    del lines[line]
    return f"line {line} taken out"


def swap(segments: Segments, rng: random.Random) -> str:
    """Exchange two lines that follow one another, of one file."""
    line, lines = _pick(segments, rng, ends=False)
    lines[line], lines[line + 1] = lines[line + 1], lines[line]
    return f"lines {line} and {line + 1} exchanged"


def repeat(segments: Segments, rng: random.Random) -> str:
    line, lines = _pick(segments, rng)
    other = rng.choice(segments)
    other.insert(rng.randrange(len(other) + 1), lines[line])
    return f"line {line} repeated"


def insert(segments: Segments, rng: random.Random) -> str:
    """Insert a line that looks like its neighbours."""
    line, lines = _pick(segments, rng)
    forged = lines[line].replace(b'"n":', b'"n":9', 1)
    lines.insert(rng.randrange(len(lines) + 1), forged)
    return f"a forged line {line}"


def cut_head(segments: Segments, rng: random.Random) -> str:
    """Remove the beginning, not up to the end of a file."""
    lines = segments[0]
    whole = b"".join(lines)
    at = rng.randrange(1, len(whole))
    lines[:] = whole[at:].splitlines(keepends=True)
    return f"the first {at} bytes cut off"


def cut_tail(segments: Segments, rng: random.Random) -> str:
    lines = segments[-1]
    at = rng.randrange(1, len(lines[-1]))
    lines[-1] = lines[-1][:-at]
    return f"the last {at} bytes cut off"


def drop_segment(segments: Segments, rng: random.Random) -> str:
    at = rng.randrange(1, len(segments) - 1)
    del segments[at]
    return f"file {at} removed"


def rewrite_value(segments: Segments, rng: random.Random) -> str:
    line, lines = _pick(segments, rng)
    old, new = rng.choice(
        [
            (b'"n":', b'"n":1'),
            (b"decision", b"refused"),
            (b'"seq":', b'"seq":1'),
            (b":02:", b":12:"),
        ]
    )
    lines[line] = lines[line].replace(old, new, 1)
    return f"{old!r} became {new!r} in line {line}"


EDITS: Sequence[Edit] = (
    flip,
    delete,
    swap,
    repeat,
    insert,
    cut_head,
    cut_tail,
    drop_segment,
    rewrite_value,
)
"""Edits that a chain detects by itself."""


def cut_whole_lines(segments: Segments, rng: random.Random) -> str:
    lines = segments[-1]
    count = rng.randrange(1, len(lines) + 1)
    del lines[-count:]
    return f"the last {count} lines cut off"


def drop_last(segments: Segments, rng: random.Random) -> str:
    count = rng.randrange(1, len(segments))
    del segments[-count:]
    return f"the last {count} files removed"


def drop_first(segments: Segments, rng: random.Random) -> str:
    del segments[0]
    return "the first file removed"


NEED_AN_ANCHOR: Sequence[Edit] = (cut_whole_lines, drop_last, drop_first)
"""Edits that only an anchor detects: of the first line, or of the last one."""


def _pick(segments: Segments, rng: random.Random, *, ends: bool = True) -> tuple[int, list[bytes]]:
    """Return a line of a file; without ``ends`` not the last one."""
    lines = rng.choice(segments)
    return rng.randrange(len(lines) - (not ends)), lines
