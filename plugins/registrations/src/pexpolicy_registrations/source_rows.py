"""Devices of a source: rows of a database, a web service or a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from pexpolicy.config.csv_tables import LIST_SEPARATOR
from pexpolicy_registrations.settings import Device


def devices_of(rows: list[dict[str, Any]], problems: list[str]) -> Iterator[tuple[int, Device]]:
    """Yield the devices in rows with the number of the row, and append what is wrong with others.

    Columns that a device does not have are ignored.
    """
    for number, row in enumerate(rows, 1):
        try:
            yield number, Device.model_validate(_fields(row))
        except ValidationError as error:
            # The values may be passwords.
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = "".join(f"{part}: " for part in first["loc"])
            problems.append(f"row {number}: {place}{first['msg']}")


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    fields = {name: row[name] for name in Device.model_fields if row.get(name) not in (None, "")}
    if isinstance(protocols := fields.get("protocols"), str):
        fields["protocols"] = [part.strip() for part in protocols.split(LIST_SEPARATOR)]
    return fields
