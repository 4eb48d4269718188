"""Text as it is compared: without case, accents and punctuation."""

from __future__ import annotations

import re
import unicodedata

_LETTERS = str.maketrans(
    {"æ": "ae", "ð": "d", "đ": "d", "ħ": "h", "ł": "l", "ŋ": "n", "ø": "o", "œ": "oe", "þ": "th"}
    | {"ŧ": "t", "\N{LATIN SMALL LETTER DOTLESS I}": "i"}
)
"""Letters that Unicode does not decompose."""
_LETTERS |= dict.fromkeys(map(ord, "\u02bb\u02bc"), "'")
"""Apostrophes that Unicode counts as letters."""
_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without accents: ``Åse Ødegård`` has ``ase`` and
    ``odegard``.
    """
    decomposed = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
    return _WORD.findall("".join(c for c in decomposed if not unicodedata.combining(c)))


def folded(text: str) -> str:
    """Return the words of a text, separated by one blank."""
    return " ".join(words(text))
