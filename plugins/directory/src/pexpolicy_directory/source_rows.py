"""Entries of a source: rows of a database, an LDAP directory, a web service or a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from pexpolicy.config.csv_tables import LIST_SEPARATOR
from pexpolicy_directory.settings import Entry


def entries_of(rows: list[dict[str, Any]], problems: list[str]) -> Iterator[tuple[int, Entry]]:
    """Yield the entries in rows with the number of the row, and append what is wrong with others.

    Columns that an entry does not have are ignored.
    """
    for number, row in enumerate(rows, 1):
        try:
            yield number, Entry.model_validate(_fields(row))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = "".join(f"{part}: " for part in first["loc"])
            problems.append(f"row {number}: {place}{first['msg']}")


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an entry; of several names or aliases, the first."""
    fields = {name: row[name] for name in Entry.model_fields if row.get(name) not in (None, "", [])}
    for name, value in fields.items():
        if name == "groups" and isinstance(value, str):
            fields[name] = [part.strip() for part in value.split(LIST_SEPARATOR)]
        elif name == "keywords" and isinstance(value, list):
            fields[name] = " ".join(map(str, value))
        elif name != "groups" and isinstance(value, list):
            fields[name] = value[0]
    return fields
