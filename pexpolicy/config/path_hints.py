"""Hints for files that are not there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_MAX_LISTED = 1000
"""Entries of a folder that are compared with a name."""


def missing_hint(path: Path) -> str:
    """Return why a file may not be there, after a semicolon, or nothing."""
    if path.parts[:1] == ("~",) or path.parent.name == "~":
        return "; ~ is not replaced here: write the whole path"
    if "\\" in path.name:
        return "; write / between folders"
    with suppress(OSError):
        if path.is_symlink() and not path.exists():
            return f"; it is a symbolic link to {path.readlink()}, which is not there"
        if not path.parent.exists():
            return f"; there is no folder {path.parent}"
        for _, entry in zip(range(_MAX_LISTED), path.parent.iterdir(), strict=False):
            if entry.name != path.name and entry.name.lower() == path.name.lower():
                return f"; did you mean {entry.name!r}? Capitals count"
    return ""
