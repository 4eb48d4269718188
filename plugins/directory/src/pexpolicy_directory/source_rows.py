"""Entries of a source: rows of a database, an LDAP directory, a web service or a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pexpolicy.rows import read_rows
from pexpolicy_directory.settings import MAX, Entry


def entries_of(rows: list[dict[str, Any]], problems: list[str]) -> Iterator[tuple[int, Entry]]:
    """Yield the entries in rows with the number of the row, and append what is wrong with others.

    Columns that an entry does not have are ignored.
    """
    return read_rows(map(_fields, rows), Entry, problems)


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    """Return the first of several aliases and names; the other names are keywords."""
    several = {name: value for name, value in row.items() if isinstance(value, list)}
    words = [*several.get("name", [])[1:], *several.get("keywords", [row.get("keywords")])]
    return {
        **row,
        **{name: next(iter(several[name]), None) for name in several if name != "groups"},
        # Someone with more of them is found by the first ones, not left out.
        "keywords": " ".join(str(word) for word in words if word)[:MAX],
    }
