"""A page in HTML that needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from pexpolicy.text import printable

MAX_VALUE = 300
"""Characters of a value."""


def page(title: str, sections: Iterable[str]) -> str:
    """Return a page, light or dark as its reader prefers."""
    style = resources.files("pexpolicy.replay").joinpath("report.css").read_text("utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{text(title)}</title><style>{style}</style></head><body><main>"
        f"<h1>{text(title)}</h1>{''.join(sections)}</main></body></html>\n"
    )


def text(value: object) -> str:
    """Return a text as HTML, shortened, without control characters."""
    shown = printable(value)
    return escape(shown if len(shown) <= MAX_VALUE else f"{shown[:MAX_VALUE]}…")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table of cells in HTML; ``numbers`` are the columns that align to the right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=number' if at in numbers else ''}>{cell}</{tag}>"
            for at, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", [*map(escape, head)])}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
