"""Cells that a spreadsheet saves and no table can hold."""

from __future__ import annotations

from collections.abc import Sequence

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


def failed_formula(names: Sequence[str], cells: Sequence[str]) -> str:
    """Return which cell of a line holds the error of a formula, or nothing."""
    for name, cell in zip(names, cells, strict=False):
        if cell.lower() in _ERRORS:
            return f"{name}: {cell} is an error of the spreadsheet: mend the formula"
    return ""
