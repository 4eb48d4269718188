"""Text on a terminal: the console, tables, values, durations and sizes."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pexpolicy.text import printable

UNBOUNDED = 10_000
"""Columns where standard output is not a terminal, so that no line is folded."""
MINUTE, HOUR, DAY = 60, 3600, 86400


Cell = str | tuple[str, str] | Text
"""A text, or a text with its style; only a ``Text`` is printed as it is."""


def screen() -> Console:
    """Return a console that reads no markup, as callers and plugins choose some of the text."""
    width = None if sys.stdout.isatty() else UNBOUNDED
    return Console(highlight=False, markup=False, emoji=False, width=width)


def print_lines(console: Console, *lines: Cell) -> None:
    """Print a line for each text."""
    for line in lines:
        console.print(_styled(line))


def print_table(
    console: Console,
    names: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    right: Collection[str] = (),
) -> None:
    """Print rows as a table without lines, with the columns ``right`` aligned to the right.

    Without names there is no header, and without rows no table.
    """
    table = Table(box=None, header_style="bold", show_header=any(names))
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_styled, row))
    if table.row_count:
        console.print(table)


def _styled(cell: Cell) -> Text:
    if isinstance(cell, Text):
        return cell
    text, style = cell if isinstance(cell, tuple) else (cell, "")
    return Text(printable(text), style)


def as_text(value: Any) -> str:
    """Return a value as in JSON; text without its quotes."""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def as_words(value: object) -> str:
    """Return a value of JSON on one line, without brackets and quotes."""
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key_words(key)} {as_words(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(as_words, value))
    return printable(value)


def key_words(key: object) -> str:
    """Return a key of JSON as words."""
    return printable(key).replace("_", " ")


def format_duration(seconds: float) -> str:
    """Return a duration in one or two units."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} min"
    if seconds < DAY:
        return f"{seconds // HOUR:.0f} h {seconds % HOUR // MINUTE:.0f} min"
    return f"{seconds // DAY:.0f} d {seconds % DAY // HOUR:.0f} h"


def format_time(timestamp: object) -> str:
    """Return a timestamp of a line in local time with its offset."""
    try:
        return f"{datetime.fromisoformat(str(timestamp)).astimezone():%Y-%m-%d %H:%M:%S%z}"
    except (ValueError, OverflowError):
        return "?"


def format_size(size: int) -> str:
    """Return a size on a disk, in GiB or, where that is less than one, in MiB."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"
