"""The CSV export of a server that routes policy requests by regular expressions, row by row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, ValidationError

from pexpolicy.config.csv_tables import TableError, TableIssue, TableRow
from pexpolicy.config.encodings import EncodingError, decode_text
from pexpolicy.config.problems import problems_of
from pexpolicy.text import brief


def _json_list(cell: Any) -> Any:
    try:
        read = json.loads(cell)
    except ValueError:
        read = None
    if not isinstance(read, list):
        msg = 'is no JSON list; write one such as ["sip", "webrtc"]'
        raise ValueError(msg)  # noqa: TRY004 - of a file
    return read


JsonList = Annotated[list[str], BeforeValidator(_json_list)]


class RouterRow(TableRow):
    """One row of an export; early exports have the first six columns only."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    regex: str
    priority: int = 0
    is_active: bool = True
    service_target_url: str = ""
    participant_target_url: str = ""
    protocols: JsonList = []
    call_directions: JsonList = []
    source_match: str = ""
    basic_auth_username: str = ""
    basic_auth_password: str = ""
    always_continue_service: bool = False
    override_service_response: str = ""
    always_continue_participant: bool = False
    override_participant_response: str = ""


def read_export(
    path: Path, faults: list[TableIssue], remarks: list[str]
) -> list[tuple[int, RouterRow]]:
    """Return the rows that can be read, each with its line; ``faults`` takes what the others are
    left out for. Raises ``TableError`` for a file without such rows.
    """
    try:
        text = decode_text(path.read_bytes())
    except OSError as error:
        raise TableError([TableIssue(path.name, 0, f"{path}: {error.strerror}")]) from None
    except EncodingError as error:
        raise TableError([TableIssue(path.name, error.line, error.text)]) from None
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = [column.strip() for column in reader.fieldnames or ()]
    reader.fieldnames = columns
    missing = [name for name in ("name", "regex") if name not in columns]
    if missing:
        known = ",".join(RouterRow.model_fields)
        said = [f"the column {name} is missing; an export has {known}" for name in missing]
        raise TableError([TableIssue(path.name, 1, text) for text in said])
    others = [column for column in columns if column not in RouterRow.model_fields]
    remarks += [f"the column {brief(column)} is not read" for column in others]
    rows: list[tuple[int, RouterRow]] = []
    line = reader.line_num + 1
    try:
        for cells in reader:
            if (made := _row(cells, path.name, line, faults)) is not None:
                rows.append((line, made))
            line = reader.line_num + 1
    except csv.Error as error:
        faults.append(TableIssue(path.name, line, f"cannot be read ({error})"))
    return rows


def _row(
    cells: Mapping[str | None, Any], file: str, line: int, faults: list[TableIssue]
) -> RouterRow | None:
    if None in cells:
        faults.append(TableIssue(file, line, "has more cells than columns"))
        return None
    try:
        return RouterRow.model_validate({name: cell for name, cell in cells.items() if cell})
    except ValidationError as error:
        name = cells.get("name") or ""
        told = problems_of(error, RouterRow)
        faults += [left_out(file, line, str(problem), name) for problem in told]
        return None


def left_out(file: str, line: int, text: str, name: str) -> TableIssue:
    """Return what is wrong with a row, and that its rule is left out."""
    return TableIssue(file, line, f"{text}; rule {brief(name)} is left out")
