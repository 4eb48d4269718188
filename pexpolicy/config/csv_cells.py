"""Lines and cells that a spreadsheet saves and no table can hold."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pexpolicy.config.csv_header import TABS, column_names

EMPTY = (
    "; its cell is empty: fill it, as merged cells are saved in their first line only, or delete "
    "the line"
)
"""What follows the name of a column that a line lacks."""
_ERRORS = frozenset(
    (
        *("#n/a", "#nv", "#n/v", "#null!", "#div/0!", "#value!", "#wert!", "#valeur!", "#ref!"),
        *("#bezug!", "#name?", "#nom?", "#num!", "#zahl!", "#nombre!", "#spill!", "#getting_data"),
    )
)
"""What a spreadsheet in English, German or French saves for a formula that has failed."""
_FORMULA = re.compile(r"=\$?[A-Z]{1,3}\$?\d+\b|=[A-Z.]{2,}\(", re.IGNORECASE)


def no_row(names: Sequence[str], cells: Sequence[str], columns: Collection[str]) -> str:
    """Return why a line is no row under a header with these names, or nothing."""
    first = cells[0].lstrip("\ufeff")
    if first.lower() in columns and column_names([first, *cells[1:]], columns) == names:
        return "is the header again, as where files were joined: delete the line"
    if len(cells) != 1 or len(names) == 1:
        return ""
    if first.startswith("#"):
        return "is no row: a CSV file has no comments; delete the line"
    if "\t" in first:
        return TABS
    other = next((mark for mark in ",;" if first.count(mark) == len(names) - 1), "")
    return f"has {other} between its cells, and the header does not" if other else ""


def failed_formula(names: Sequence[str], cells: Sequence[str]) -> str:
    """Return which cell of a line holds a formula or the error of one, or nothing."""
    for name, cell in zip(names, cells, strict=False):
        if cell[:1] == "=" and _FORMULA.match(cell):
            return f"{name}: is a formula: switch off that the spreadsheet shows formulas, and save"
        if cell.lower() in _ERRORS:
            return f"{name}: {cell} is an error of the spreadsheet: mend the formula"
    return ""
