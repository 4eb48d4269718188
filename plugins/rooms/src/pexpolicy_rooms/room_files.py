"""Rooms as they are written: in the configuration, in TOML files and in a CSV file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from pexpolicy import Key, Problem
from pexpolicy.config.csv_tables import TableError, TableRow, iterate_table
from pexpolicy.config.toml_tables import read_tables
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.extras import Extras
from pexpolicy.rows import RowValues
from pexpolicy_rooms.cell_hints import separator_problem
from pexpolicy_rooms.settings import Settings

VALIDITY = ("valid_from", "valid_until")
_FIRST = ("name", "pin", "guest_pin", "allow_guests", "service_type", *VALIDITY)
"""Columns that messages name before the others."""


class WrittenRoom(NamedTuple):
    """A room before it is checked: its key, its aliases, and its other keys."""

    key: Key
    aliases: list[str]
    fields: dict[str, Any]


def written_rooms(
    settings: Settings, extras: Extras, problems: list[Problem]
) -> Iterator[WrittenRoom]:
    """Yield the rooms of the configuration, then those of the files; collect ``problems``."""
    for alias, table in settings.rooms.items():
        key = ("rooms", alias)
        if not isinstance(table, dict):
            text = "expected a table of fields, such as name and service_tag"
            if isinstance(table, list):
                text += ": write […] with single brackets, not [[…]]"
            problems.append(Problem(key, text))
            continue
        if table and all(isinstance(value, dict) for value in table.values()):
            whole = f"{alias}.{next(iter(table))}"
            text = f'has no fields, only a table; an alias with a dot needs quotes, as in "{whole}"'
            problems.append(Problem(key, text))
            continue
        more = _aliases(key, table.get("aliases", []), problems)
        yield WrittenRoom(key, [alias, *more], _without_aliases(table))
    for number, path in enumerate(settings.files):
        if path in settings.files[:number]:
            problems.append(Problem(("files", number), f"{path.name} is in the list already"))
            continue
        yield from _file_rooms(("files", number), path, problems)
    if settings.csv is not None:
        yield from _csv_rooms(settings.csv, extras, problems)


def _aliases(key: Key, written: Any, problems: list[Problem]) -> list[str]:
    if isinstance(written, str):
        return split_aliases(key, written, problems)
    if isinstance(written, list) and all(isinstance(alias, str) for alias in written):
        return written
    text = 'takes a list of aliases: write aliases = ["meet@example.com", "meet"]'
    problems.append(Problem((*key, "aliases"), text))
    return []


def split_aliases(key: Key, text: str, problems: list[Problem]) -> list[str]:
    """Return the aliases in a text; those that are not separated by blanks are a problem."""
    aliases = text.split()
    if problem := separator_problem(aliases):
        problems.append(Problem((*key, "aliases"), problem))
    return aliases


def _without_aliases(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != "aliases"}


def _file_rooms(key: Key, path: Path, problems: list[Problem]) -> Iterator[WrittenRoom]:
    try:
        tables, faults = read_tables(path, "rooms")
    except TableError as error:
        problems += error.under(key)
        return
    problems += TableError(faults).under(key)
    for table in tables:
        place = (*key, f"{table.file} line {table.line}")
        aliases = _aliases(place, table.values.get("aliases", []), problems)
        if not aliases:
            guess = "; write aliases = [...]" if "alias" in table.values else ""
            problems.append(
                Problem((*place, "aliases"), f"is missing: a room needs an alias{guess}")
            )
        yield WrittenRoom(place, aliases, _without_aliases(table.values))


def _csv_rooms(path: Path, extras: Extras, problems: list[Problem]) -> Iterator[WrittenRoom]:
    values = FieldValues()
    try:
        for row in iterate_table(path, _row_model(extras)):
            cells = row.values.model_dump(exclude_none=True)
            place = ("csv", f"{row.file} line {row.line}")
            aliases = split_aliases(place, cells.pop("aliases"), problems)
            yield WrittenRoom(place, aliases, values.of(cells))
    except TableError as error:
        problems += error.under(("csv",))


class FieldValues:
    """Gives the fields of a room, where cells are text, the values of their types."""

    def __init__(self) -> None:
        self._kinds = {name: RowValues(kind) for name, kind in SERVICE_TYPES.items()}

    def of(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields; those of an unknown service type as they are."""
        times = {name: cells[name] for name in VALIDITY if name in cells}
        kind = cells.get("service_type", "conference")
        values = self._kinds.get(kind) if isinstance(kind, str) else None
        return dict(cells) if values is None else {**values.of(cells), **times}


def columns(extras: Extras) -> list[str]:
    """Return the names of all fields of all service types, and of the times of a room."""
    names = {name for kind in SERVICE_TYPES.values() for name in kind.hints}
    return [*_FIRST, *sorted({*names, *extras.fields} - {*_FIRST})]


def _row_model(extras: Extras) -> type[TableRow]:
    """Return the model of a line: all fields of all service types, as text."""
    cells: dict[str, Any] = dict.fromkeys(columns(extras), (str | None, None))
    return pydantic.create_model("RoomRow", __base__=TableRow, aliases=(str, ...), **cells)
