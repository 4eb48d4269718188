"""The header of a CSV table: its columns, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from pexpolicy.text import brief, did_you_mean

TABS = "has tabs between its columns; save it with , or ; between them"
MAX_LISTED = 8
"""Columns that a message lists."""
declared_delimiter = re.compile(r"sep=([,;])\s*\Z", re.IGNORECASE).match
"""Matches the line of Excel that names the delimiter, before the header."""
_BLANKS = re.compile("[ \N{NO-BREAK SPACE}]+")


def column_names(cells: Sequence[str], columns: Collection[str]) -> list[str]:
    """Return the names in a header in lower case; ``Guest PIN`` is the column ``guest_pin``."""
    lower = [cell.lower() for cell in cells]
    return [name if name in columns else _BLANKS.sub("_", name) for name in lower]


def header_faults(names: Sequence[str], columns: Mapping[str, bool]) -> Iterator[str]:
    """Yield what is wrong with the names of a header; ``columns`` says which are required."""
    if other := _other_form(names):
        yield other
        return
    if not names:
        yield f"is empty; the first line names the columns, such as {_some(columns, ',')}"
        return
    if not any(name in columns or did_you_mean(_plain(name), columns) for name in names):
        yield (
            f"names no column: the first line has to be the header, such as {_some(columns, ',')}, "
            f"not {brief(names[0])}"
        )
        return
    for number, name in enumerate(names, 1):
        if not name:
            yield f"column {number} has no name: name it, or delete the column"
        elif name not in columns:
            guess = did_you_mean(_plain(name), columns)
            guess = guess or f"; delete it, or write one of {_some(columns, ', ')}"
            yield f"there is no column {brief(name)}{guess}"
        elif name in names[: number - 1]:
            yield f"the column {name} appears twice: delete one"
    for name, required in columns.items():
        if required and name not in names:
            yield f"the column {name} is missing"


def _other_form(names: Sequence[str]) -> str:
    """Return what to do with a file that is no CSV with commas or semicolons, or nothing."""
    if len(names) == 1 and "\t" in names[0]:
        return TABS
    if len(names) == 1 and (mark := re.search("[,;]", names[0])) is not None:
        return f"is one cell in quotes, with {mark[0]} in it: save the file without these quotes"
    if len(names) == 1 and "|" in names[0]:
        return "has | between its columns; save it with , or ; between them"
    if names and names[0].startswith("<"):
        return "is HTML or XML, not CSV; open it in a spreadsheet, and save it as CSV UTF-8"
    return ""


def _plain(name: str) -> str:
    """Return a name without the marks that people write, as in ``PIN (Host)*``."""
    return re.sub(r"[\W_]+", "_", name).strip("_")


def _some(columns: Collection[str], between: str) -> str:
    more = f" and {len(columns) - MAX_LISTED} more" if len(columns) > MAX_LISTED else ""
    return between.join(list(columns)[:MAX_LISTED]) + more
