"""Long texts on a terminal: folded between words, with an indent."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

INDENT = 4
"""Blanks before the lines that continue a folded one."""


def print_folded(console: Console, text: Text, indent: int = INDENT) -> None:
    """Print a text; on a terminal its further lines are indented, and no word is broken."""
    if not console.is_terminal:
        console.print(text, soft_wrap=True)
        return
    for line in folded(console, text, indent):
        console.print(line, soft_wrap=True)


def folded(console: Console, text: Text, indent: int = INDENT) -> Iterator[Text]:
    """Yield the lines of a text for the width of a console."""
    from rich.text import Text  # noqa: PLC0415 - a server, which folds its warnings, needs no rich

    # A terminal that is narrower than the indent is not worth a rule of its own.
    width = max(console.width - indent, 20)
    first, *_ = text.wrap(console, max(console.width, 20), overflow="fold")
    yield first
    rest = text[len(first) :]
    rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
    for line in rest.wrap(console, width, overflow="fold") if rest else ():
        yield Text(" " * indent).append_text(line)


def fold_plain(text: str, margin: int = 0) -> str:
    """Return a text as it is printed on standard error after ``margin`` blanks."""
    if not sys.stderr.isatty():
        return text
    width = max(shutil.get_terminal_size().columns - margin, 20)
    return fill(text, width, subsequent_indent=" " * INDENT, break_long_words=False)
