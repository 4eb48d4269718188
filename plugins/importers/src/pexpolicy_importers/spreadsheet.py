"""Tables as spreadsheets save them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from pexpolicy.rows import RowValues

DELIMITERS = ",;\t"
_names_delimiter = re.compile("sep=.?", re.IGNORECASE).fullmatch


def _boolean(cell: Any) -> Any:
    meant = RowValues.boolean(cell.strip()) if isinstance(cell, str) else None
    return cell if meant is None else meant


SpreadsheetBool = Annotated[bool, BeforeValidator(_boolean)]
"""A boolean as spreadsheets save it in their language, such as WAHR."""


def table_of(text: str) -> tuple[str, str, int]:
    """Return a table from its header on, its delimiter, and the number of lines above the header.

    These are blank, or the line in which Excel names the delimiter.
    """
    lines = 0
    while text:
        header, _, rest = text.partition("\n")
        if header.strip() and _names_delimiter(header.strip()) is None:
            break
        text, lines = rest, lines + 1
    return text, max(DELIMITERS, key=text.partition("\n")[0].count), lines
