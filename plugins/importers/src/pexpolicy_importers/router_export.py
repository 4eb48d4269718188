"""Reader of the CSV export of a server that routes policy requests by regular expressions."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict

from pexpolicy.config.csv_tables import TableError, TableIssue, TableRow, read_text
from pexpolicy.config.toml_tables import validated
from pexpolicy.text import brief
from pexpolicy_importers.spreadsheet import SpreadsheetBool, table_of


def _json_list(cell: Any) -> Any:
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        value = None
    if value is None and cell.strip() == "null":
        return []
    if not isinstance(value, list):
        msg = 'is not a JSON list; write one such as ["sip", "webrtc"]'
        raise ValueError(msg)  # noqa: TRY004 - of a file
    return value


JsonList = Annotated[list[str], BeforeValidator(_json_list)]
Reply = Annotated[str, BeforeValidator(lambda cell: "" if cell.strip() == "null" else cell)]


class RouterRow(TableRow):
    """One row of an export; early exports have the first six columns only."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    regex: str
    priority: int = 0
    is_active: SpreadsheetBool = True
    service_target_url: str = ""
    participant_target_url: str = ""
    protocols: JsonList = []
    call_directions: JsonList = []
    source_match: str = ""
    basic_auth_username: str = ""
    basic_auth_password: str = ""
    always_continue_service: SpreadsheetBool = False
    override_service_response: Reply = ""
    always_continue_participant: SpreadsheetBool = False
    override_participant_response: Reply = ""


def read_export(
    path: Path, faults: list[TableIssue], remarks: list[str]
) -> list[tuple[int, RouterRow]]:
    """Return the readable rows, each with its line; what is wrong with others goes to ``faults``.

    Raise ``TableError`` for a file that is not an export.
    """
    file = path.name
    text, delimiter, above = table_of(read_text(path, "CSV UTF-8"))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    known = RouterRow.model_fields
    try:
        columns = ["_".join(column.lower().split()) for column in reader.fieldnames or ()]
    except csv.Error as error:
        raise TableError([TableIssue(file, above + 1, f"cannot be read ({error})")]) from None
    reader.fieldnames = columns
    if missing := [name for name in ("name", "regex") if name not in columns]:
        end = f"is missing; an export has {','.join(known)}"
        raise TableError([TableIssue(file, above + 1, f"the column {n} {end}") for n in missing])
    if twice := {name for name in known if columns.count(name) > 1}:
        end = "appears twice: delete one"
        raise TableError([TableIssue(file, above + 1, f"the column {n} {end}") for n in twice])
    others = [name for name in columns if name and name not in known]
    remarks += [f"the column {brief(name)} is not read" for name in others]
    rows: list[tuple[int, RouterRow]] = []
    line = above + reader.line_num + 1
    try:
        for cells in reader:
            given = {name: cell for name, cell in cells.items() if _is_filled(cell)}
            if None in given:
                faults.append(TableIssue(file, line, "has more cells than columns"))
            elif given:
                row, problems = validated(given, RouterRow, {})
                name = cells.get("name") or ""
                faults += [row_issue(file, line, str(problem), name) for problem in problems]
                if row is not None:
                    rows.append((line, row))
            line = above + reader.line_num + 1
    except csv.Error as error:
        faults.append(TableIssue(file, line, f"cannot be read ({error})"))
    return rows


def _is_filled(cell: str | list[str] | None) -> bool:
    """Return whether a cell, or one of the cells after the last column, is not blank."""
    return any(part.strip() for part in (cell if isinstance(cell, list) else [cell or ""]))


def row_issue(file: str, line: int, text: str, name: str) -> TableIssue:
    """Return the reason for which the rule of a row is left out."""
    return TableIssue(file, line, f"{text}; rule {brief(name)} is left out")
