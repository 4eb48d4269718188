"""Lines of CSV files as rows of the tables, checked as the plugins that read them do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import pydantic
from pydantic import Field
from sqlalchemy import Boolean, Column, Integer, String, Table

from pexpolicy import Alias
from pexpolicy.config.csv_tables import TableRow
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES, service_class
from pexpolicy.rows import RowValues
from pexpolicy.text import brief, did_you_mean
from pexpolicy_sql.tables import DEVICES, MAX, PEOPLE, ROOMS

PROTOCOLS = ("webrtc", "sip", "h323")
_VALUES: Mapping[str, RowValues] = {name: RowValues(kind) for name, kind in SERVICE_TYPES.items()}

Record = dict[str, Any]
"""A row of a table, by column."""


class Kind(NamedTuple):
    """What a file holds: its table, the model of its lines, and the check of a row."""

    table: Table
    model: type[TableRow]
    check: Callable[[Record], Iterator[str]]
    """Gives the values of a row their final form, and yields what is wrong."""

    @property
    def key(self) -> str:
        """The primary key of the table."""
        return str(next(iter(self.table.primary_key)).name)


def _check_room(row: Record) -> Iterator[str]:
    row["service_type"] = row["service_type"] or "conference"
    yield from _times(row)
    model = service_class(row["service_type"])
    if model is None:
        guess = did_you_mean(row["service_type"], SERVICE_TYPES)
        what = f"{brief(row['service_type'])} is not one of {', '.join(SERVICE_TYPES)}"
        yield f"service_type: {what}{guess}"
        return
    others = ("valid_from", "valid_until")
    given = {name: value for name, value in row.items() if name not in others}
    fields = _VALUES[row["service_type"]].of(given)
    fields.setdefault("service_tag", "")
    for issue in model.find_issues(fields):
        yield f"{'.'.join(map(str, issue.key))}: {issue.text}"
    row |= {n: json.dumps(value) for n, value in fields.items() if isinstance(value, list)}


def _times(row: Record) -> Iterator[str]:
    for name in ("valid_from", "valid_until"):
        try:
            datetime.fromisoformat(row[name] or "2026-12-24")
        except ValueError:
            yield f"{name}: expected a day or a time, such as 2026-12-24 or 2026-12-24T18:00"


def _check_device(row: Record) -> Iterator[str]:
    yield from _check_alias(row)
    if (row["username"] is None) != (row["password"] is None):
        missing = "username" if row["username"] is None else "password"
        yield f"{missing} is missing: a device needs both or neither"
    if len(row["password"] or "") > MAX:
        # The message of the model would have the value.
        yield f"password: takes {MAX} characters at most"
    for word in (row["protocols"] or "").split("|"):
        if row["protocols"] is not None and word.strip() not in PROTOCOLS:
            yield f"protocols: {brief(word.strip())} is not one of {', '.join(PROTOCOLS)}"


def _check_alias(row: Record) -> Iterator[str]:
    alias = Alias(row["alias"])
    if not alias.user:
        yield 'alias: is not an alias; write one such as "anna@example.com"'
    row["alias"] = str(alias)


def _model(table: Table, **more: Any) -> type[TableRow]:
    """Return the model of a line: the columns of a table, and more."""
    cells: dict[str, Any] = {str(column.name): _cell(column) for column in table.columns}
    return pydantic.create_model("Line", __base__=TableRow, **{**more, **cells})


def _cell(column: Column[Any]) -> tuple[Any, Any]:
    kind: Any = str
    if isinstance(column.type, Boolean):
        kind = bool
    elif isinstance(column.type, Integer):
        kind = int
    elif isinstance(column.type, String) and column.type.length and column.name != "password":
        kind = Annotated[str, Field(max_length=column.type.length)]
    if isinstance(column.type, Boolean) and not column.nullable:
        return kind, False
    is_required = not column.nullable and column.server_default is None
    return (kind, ...) if is_required else (kind | None, None)


KINDS: Mapping[str, Kind] = {
    "rooms": Kind(ROOMS, _model(ROOMS, aliases=(str, ...)), _check_room),
    "devices": Kind(DEVICES, _model(DEVICES), _check_device),
    "people": Kind(PEOPLE, _model(PEOPLE), _check_alias),
}
