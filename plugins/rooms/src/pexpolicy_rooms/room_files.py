"""Rooms as they are written: in the configuration, in TOML files and in a CSV file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pydantic

from pexpolicy import SERVICE_TYPES, Extras, Key, Problem, Service
from pexpolicy.config.csv_tables import TableError, TableRow, iterate_table
from pexpolicy.config.toml_tables import read_tables
from pexpolicy_rooms.settings import Settings

VALIDITY = ("valid_from", "valid_until")
_TRUTH = ("true", "false")


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
            problems.append(Problem(key, text))
            continue
        more = _aliases(key, table.get("aliases", []), problems)
        yield WrittenRoom(key, [alias, *more], _without_aliases(table))
    for number, path in enumerate(settings.files):
        yield from _file_rooms(("files", number), path, problems)
    if settings.csv is not None:
        yield from _csv_rooms(settings.csv, extras, problems)


def _aliases(key: Key, written: Any, problems: list[Problem]) -> list[str]:
    if isinstance(written, str):
        return written.split()
    if isinstance(written, list) and all(isinstance(alias, str) for alias in written):
        return written
    text = 'takes a list of aliases: write aliases = ["meet@example.com", "meet"]'
    problems.append(Problem((*key, "aliases"), text))
    return []


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
            problems.append(Problem((*place, "aliases"), "is missing: a room needs an alias"))
        yield WrittenRoom(place, aliases, _without_aliases(table.values))


def _csv_rooms(path: Path, extras: Extras, problems: list[Problem]) -> Iterator[WrittenRoom]:
    texts = text_columns()
    try:
        for row in iterate_table(path, _row_model(extras)):
            cells = row.values.model_dump(exclude_none=True)
            aliases = cells.pop("aliases").split()
            place = ("csv", f"{row.file} line {row.line}")
            yield WrittenRoom(place, aliases, values_of(cells, texts))
    except TableError as error:
        problems += error.under(("csv",))


def values_of(cells: Mapping[str, Any], texts: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    """Return the fields of a room with the values of their types, where cells are text.

    ``texts`` is what ``text_columns`` returns.
    """
    text = texts.get(cells.get("service_type", "conference"), cells.keys())
    return {
        name: cell
        if not isinstance(cell, str) or name in text or name in VALIDITY
        else _value(cell)
        for name, cell in cells.items()
    }


def text_columns() -> Mapping[str, frozenset[str]]:
    """Return the fields that take text, by service type."""
    return {name: _text_fields(kind) for name, kind in SERVICE_TYPES.items()}


def columns(extras: Extras) -> list[str]:
    """Return the names of all fields of all service types, and of the times of a room."""
    names = {name for kind in SERVICE_TYPES.values() for name in kind.hints}
    return sorted({*names, *extras.fields, *VALIDITY})


def _row_model(extras: Extras) -> type[TableRow]:
    """Return the model of a line: all fields of all service types, as text."""
    cells: dict[str, Any] = dict.fromkeys(columns(extras), (str | None, None))
    return pydantic.create_model("RoomRow", __base__=TableRow, aliases=(str, ...), **cells)


def _text_fields(kind: type[Service]) -> frozenset[str]:
    """Return the fields that take text, such as names, PINs and words."""
    return frozenset(name for name, hint in kind.hints.items() if _takes_text(hint))


def _takes_text(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (list, tuple, dict):
        return False
    return hint is str or origin is Literal or any(map(_takes_text, get_args(hint)))


def _value(cell: str) -> Any:
    """Return a cell as a value in TOML, or as text where it is none: the check names it then."""
    try:
        return tomllib.loads(f"value = {cell.lower() if cell.lower() in _TRUTH else cell}")["value"]
    except tomllib.TOMLDecodeError:
        return cell
