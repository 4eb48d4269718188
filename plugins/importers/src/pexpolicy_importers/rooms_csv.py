"""Rooms of a configuration as a CSV file that the plugin rooms reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from pexpolicy import Problem
from pexpolicy.config.csv_tables import TableRow, write_table
from pexpolicy.config.toml_tables import validated
from pexpolicy_importers.toml_merge import ImportFailed, read_document, unwrap

if TYPE_CHECKING:
    from pexpolicy_rooms.room_files import WrittenRoom

FIRST = ("aliases", "name")
"""The columns on the left; the others follow in alphabetical order."""
_RECIPE = "is calculated: a CSV file cannot say so; write it for all rooms, or as text"
_SETTINGS = ("plugins", "rooms", "settings")


def rooms_to_export(path: Path) -> tuple[str, list[str]]:
    """Return all rooms of a configuration or of a file of rooms as CSV, with remarks.

    Aliases with equal settings become one line. Raise ``ImportFailed``.
    """
    try:
        from pexpolicy_rooms.room_files import written_rooms  # noqa: PLC0415 - another package
        from pexpolicy_rooms.settings import Settings  # noqa: PLC0415 - the same
    except ImportError:
        raise ImportFailed("the package pexpolicy-rooms is needed: install it") from None
    tables, remarks = _tables(path)
    settings, problems = validated(tables, Settings, {"root": path.parent})
    if settings is not None:
        found = list(written_rooms(settings, settings.extras, problems))
        if not problems and found:
            is_calculated = settings.pin is not None or settings.guest_pin is not None
            return to_csv(found if is_calculated else _merged(found)), remarks
    raise ImportFailed("\n".join(map(str, problems)) or f"{path} has no rooms")


def _tables(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of ``rooms`` without what no CSV file of rooms holds, and remarks."""
    document: Any = unwrap(read_document(path))
    if "rooms" in document and "plugins" not in document:
        return {"files": [path.name]}, []
    for key in _SETTINGS:
        document = document.get(key, {}) if isinstance(document, dict) else {}
    remarks = []
    if "source" in document:
        remarks.append(f"the rooms of the source {document['source']} are not among these")
    if "pins" in document:
        remarks.append(f"the PINs in {document['pins']} are not among these")
    others = ("source", "query", "every", "cache", "pins")
    return {key: value for key, value in document.items() if key not in others}, remarks


def to_csv(rooms: Iterable[WrittenRoom]) -> str:
    """Return rooms as the text of a CSV file; raise ``ImportFailed`` for one it cannot hold."""
    lines = [_line(room) for room in rooms]
    used = {name for line in lines for name in line}
    columns: dict[str, Any] = dict.fromkeys(FIRST, (str, ...))
    columns |= dict.fromkeys(sorted(used - columns.keys()), (str | None, None))
    model = pydantic.create_model("RoomLine", __base__=TableRow, **columns)
    try:
        return write_table((model(**line) for line in lines), model)
    except ValueError as error:
        raise ImportFailed(str(error)) from None


def _merged(rooms: Iterable[WrittenRoom]) -> list[WrittenRoom]:
    """Return rooms with all aliases that have the same fields in one."""
    merged: dict[str, WrittenRoom] = {}
    for room in rooms:
        fields = json.dumps(room.fields, sort_keys=True, default=str)
        same = merged.setdefault(fields, room._replace(aliases=[]))
        same.aliases.extend(room.aliases)
    return list(merged.values())


def _line(room: WrittenRoom) -> dict[str, str]:
    from pexpolicy_rooms.room_files import FieldValues  # noqa: PLC0415 - another package

    aliases = " ".join(room.aliases)
    fields = {name: _plain(value) for name, value in room.fields.items()}
    if fields.get("service_tag") == "":
        del fields["service_tag"]  # what a room without one has
    line = {name: _cell(room, name, value) for name, value in fields.items()}
    if aliases.split() != room.aliases:
        raise _refusal(room, "aliases", "holds a blank, which separates aliases")
    for name, cell in line.items():
        if not cell or cell != cell.strip() or "\0" in cell:
            text = "has blanks around it, NUL, or no text: it would be read back differently"
            raise _refusal(room, name, text)
    if "name" not in line:
        raise _refusal(room, "name", "is missing")
    read = FieldValues().of(line)
    for name, value in fields.items():
        if read.get(name) != value or type(read[name]) is not type(value):
            raise _refusal(room, name, "would be read back differently")
    return {"aliases": aliases, **line}


def _cell(room: WrittenRoom, name: str, value: Any) -> str:
    if name in ("pin", "guest_pin") and isinstance(value, Mapping):
        raise _refusal(room, name, _RECIPE)
    value = _plain(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return a date or a time as text."""
    return value.isoformat() if isinstance(value, date) else value


def _refusal(room: WrittenRoom, name: str, text: str) -> ImportFailed:
    return ImportFailed(str(Problem((*room.key, name), text)))
