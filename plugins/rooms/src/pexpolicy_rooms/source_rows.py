"""Rooms of a source: rows of a database, a web service or a file."""

from __future__ import annotations

from typing import Any

from pexpolicy import Problem, get_logger
from pexpolicy.models.extras import Extras
from pexpolicy_rooms.pins import PINS
from pexpolicy_rooms.room_files import FieldValues, WrittenRoom, columns, split_aliases
from pexpolicy_rooms.table import RoomTable
from pexpolicy_rooms.table_builder import RoomTableBuilder


def rooms_of(rows: list[dict[str, Any]], builder: RoomTableBuilder, extras: Extras) -> RoomTable:
    """Return the table of the rooms in rows; those with a problem are left out and logged.

    Columns that no room has are ignored. Raises ``ValueError`` if no room is right.
    """
    values = FieldValues()
    known = frozenset(columns(extras))
    problems: list[str] = []
    for number, row in enumerate(rows, 1):
        fields = {
            name: value
            for name, value in row.items()
            if name in known and value is not None and value != ""
        }
        aliases = row.get("aliases") or row.get("alias") or []
        if isinstance(aliases, str):
            split: list[Problem] = []
            aliases = split_aliases((f"row {number}",), aliases, split)
            problems += map(str, split)
        if not (isinstance(aliases, list) and aliases and all(isinstance(a, str) for a in aliases)):
            text = "they are text: write CAST(... AS text)" if aliases else "a room needs an alias"
            problems.append(f"row {number}: aliases: {text}")
        elif any(not isinstance(fields.get(name, ""), str) for name in PINS):
            # A table would name a file of this machine.
            problems.append(f"row {number}: a PIN is text")
        else:
            room = WrittenRoom((f"row {number}",), aliases, values.of(fields))
            problems += map(str, builder.add(room))
    if problems and not len(builder.table):
        raise ValueError(f"no room is right; {problems[0]}")
    if problems:
        get_logger().warning("rooms are left out", rows=len(problems), first=problems[0])
    return builder.table
