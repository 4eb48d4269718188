"""Tables as spreadsheets save them."""

from __future__ import annotations

import re

DELIMITERS = ",;\t"
_names_delimiter = re.compile("sep=.?", re.IGNORECASE).fullmatch


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
