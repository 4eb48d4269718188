"""Results and their writers: text for a terminal, JSON, JUnit XML, and one HTML page.

A command turns what it found into rows for ``show``, ``as_json`` and ``as_junit``, or into parts
for ``print_parts`` and ``as_html``.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import click
import rich.table
from rich.console import Console, JustifyMethod
from rich.text import Text
from rich.theme import Theme

from pexpolicy.testing.coverage import Coverage
from pexpolicy.text import printable

TITLE, GOOD, BAD, WARNING, QUIET = "title", "good", "bad", "warning", "quiet"
"""Styles of a line or of a row; empty for none."""
THEME = Theme({TITLE: "bold", GOOD: "bold green", BAD: "bold red", WARNING: "yellow", QUIET: "dim"})
_PLAIN: dict[str, Any] = {"theme": THEME, "highlight": False, "markup": False, "emoji": False}
PAGE_WIDTH = 140
"""Characters of a line on a page."""
UNBOUNDED = 10_000
"""Those where the output is not a terminal, so that no line is folded."""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>pexpolicy</title><style>
{stylesheet}
body {{ color: {foreground}; background: {background} }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere }}
</style></head><body><pre>{code}</pre></body></html>
"""


class Row(NamedTuple):
    """One result: a case, a step, or a group of changes."""

    suite: str
    """What the rows under one heading have in common, such as a file."""
    name: str
    ok: bool
    text: str = ""
    """What is wrong, in one line; of a row that is right, a remark."""
    lines: Sequence[str] = ()
    """Details of what is wrong."""
    seconds: float = 0.0
    kind: str = ""
    """The class of the case in JUnit; empty for ``suite``."""
    facts: Mapping[str, Any] = {}
    """What JSON has of the row in addition."""

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  {line}" for line in self.lines)])


class Line(NamedTuple):
    """A line of a report; a line with the style ``TITLE`` begins a section."""

    text: str
    style: str = ""
    indent: int = 0
    is_whole: bool = False
    """True for a line that no terminal wraps, such as a URL."""


Cell = str | tuple[str, str]
"""A text, or a text with its style."""


class Table(NamedTuple):
    """A table of a report; without rows it is not shown."""

    head: Sequence[str]
    """The names of the columns; all empty for a table without a header."""
    rows: Iterable[Sequence[Cell]]
    right: Collection[str] = ()
    """The columns that are aligned to the right."""


Part = Line | Table


def console(*, stderr: bool = False) -> Console:
    """Return a console for a report; nothing of a report is markup."""
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if is_terminal else UNBOUNDED, **_PLAIN)


def show(rows: Sequence[Row], seconds: float, parts: Iterable[Part] = ()) -> None:
    """Print the rows of each suite, the details of failed ones, other parts, and the totals."""
    shown: list[Part] = []
    for suite, found in _by_suite(rows):
        shown.append(Line(suite, TITLE, is_whole=True))
        width = max(len(row.name) for row in found)
        for row in found:
            text = f"ok    {row.name:<{width}}  {row.text}" if row.ok else f"FAIL  {row.name}"
            shown.append(Line(text.rstrip(), "" if row.ok else BAD, 2, is_whole=True))
            details = () if row.ok else row.lines
            shown += [Line(detail, indent=8, is_whole=True) for detail in details]
    failed = sum(not row.ok for row in rows)
    text = f"{len(rows) - failed} passed, {failed} failed in {seconds * 1000:.0f} ms"
    print_parts([*shown, Line(""), *parts, Line(text, BAD if failed else GOOD)])


def print_parts(parts: Iterable[Part], out: Console | None = None) -> None:
    """Print the parts of a report, wrapped between words to the width of the terminal."""
    out = out or console()
    for at, part in enumerate(parts):
        if isinstance(part, Line):
            if part.style == TITLE and at:
                out.print()
            text = Text(printable(part.text), part.style)
            lines = [text] if part.is_whole else text.wrap(out, out.width - part.indent)
            for line in lines or [text]:
                line.rstrip()
                out.print(Text(" " * part.indent) + line, soft_wrap=part.is_whole)
            continue
        table = rich.table.Table(box=None, header_style=TITLE, show_header=any(part.head))
        for name in part.head:
            side: JustifyMethod = "right" if name in part.right else "left"
            table.add_column(name, justify=side, overflow="fold")
        for row in part.rows:
            cells = (cell if isinstance(cell, tuple) else (cell, "") for cell in row)
            table.add_row(*(Text(printable(text), style) for text, style in cells))
        if table.row_count:
            out.print(table)


def as_json(rows: Sequence[Row], seconds: float) -> dict[str, Any]:
    """Return the totals and all rows, with the suite of each as its ``file``."""
    failed = sum(not row.ok for row in rows)
    return {
        "passed": len(rows) - failed,
        "failed": failed,
        "seconds": round(seconds, 3),
        "cases": [
            {"file": row.suite, "name": row.name, "passed": row.ok, **row.facts} for row in rows
        ],
    }


def as_junit(rows: Sequence[Row], command: str) -> str:
    """Return the rows as JUnit XML, for continuous integration."""
    root = ET.Element("testsuites", {"name": command, **_counts(rows)})
    for name, found in _by_suite(rows):
        suite = ET.SubElement(
            root,
            "testsuite",
            _counts(found),
            name=printable(name),
            errors="0",
            time=f"{sum(row.seconds for row in found):.3f}",
        )
        for row in found:
            case = ET.SubElement(
                suite,
                "testcase",
                name=printable(row.name),
                classname=printable(row.kind or name),
                time=f"{row.seconds:.3f}",
            )
            details = "\n".join(map(printable, row.lines))
            if not row.ok:
                failure = ET.SubElement(case, "failure", message=printable(row.text))
                failure.text = details
            elif details:
                ET.SubElement(case, "system-out").text = details
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _counts(rows: Sequence[Row]) -> dict[str, str]:
    return {"tests": str(len(rows)), "failures": str(sum(not row.ok for row in rows))}


def _by_suite(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    return [(suite, list(found)) for suite, found in groupby(rows, lambda row: row.suite)]


def as_html(title: str, parts: Iterable[Part]) -> str:
    """Return a page with the parts of a report."""
    out = Console(record=True, file=io.StringIO(), width=PAGE_WIDTH, **_PLAIN)
    print_parts((Line(title, TITLE), *parts), out)
    return out.export_html(code_format=PAGE)


def hook_parts(coverage: Coverage) -> Iterator[Part]:
    """Yield how often each hook was asked, and decided."""
    columns = ("plugin", "hook", "asked", "decided", "failed")
    rows = []
    for hook in coverage.hooks():
        never = "never asked" if not hook["asked"] else "never decided" * (not hook["decided"])
        rows.append((*(str(hook[name]) for name in columns), never))
    yield Table((*columns, ""), rows, columns[2:])


def coverage_parts(coverage: Coverage) -> Iterator[Line]:
    """Yield how many items of each plugin decided, and which never did."""
    for (plugin, kind), found in groupby(sorted(coverage.items), lambda item: item[:2]):
        of_kind = list(found)
        never = [item.name for item in of_kind if not coverage.used[item]]
        used = len(of_kind) - len(never)
        yield Line(f"{plugin}: {used:,} of {len(of_kind):,} used ({kind})")
        if never:
            yield Line(f"never used: {', '.join(never)}", indent=2)


def _checked(_: click.Context, __: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in paths:
        if path.suffix not in (".html", ".xml"):
            raise click.BadParameter(f"{path} ends neither in .html nor in .xml")
    return paths


report_option = click.option(
    "--report",
    "reports",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_checked,
    metavar="FILE",
    help="Write the report as a page for .html, or as JUnit XML for .xml. May be given twice.",
)


def write_reports(
    paths: Iterable[Path], command: str, rows: Sequence[Row], title: str, parts: Sequence[Part]
) -> None:
    """Write the rows of a command as JUnit XML, and its parts as a page, by the ends of names."""
    for path in paths:
        is_page = path.suffix == ".html"
        text = as_html(title, parts) if is_page else as_junit(rows, command)
        path.write_text(text, encoding="utf-8")
