"""Templates of file names and URLs that are filled with the parts of an alias."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable

from pexpolicy import Alias

PLACEHOLDERS = ("alias", "user", "host")
MAX_LENGTH = 256
"""Characters of a part. Longer ones are no alias of a person."""


class Template:
    """Text with ``{alias}``, ``{user}`` and ``{host}``; raises ``ValueError`` for others."""

    def __init__(self, text: str) -> None:
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError:
            msg = f"has a single brace: the placeholders are {known}"
            raise ValueError(msg) from None
        self.names = frozenset(name for _, name, _, _ in parts if name is not None)
        wrong = [name for name in self.names if name not in PLACEHOLDERS]
        if wrong or any(spec or conversion for _, _, spec, conversion in parts):
            written = wrong[0] if wrong else "a format"
            msg = f"has {{{written}}}: the placeholders are {known}"
            raise ValueError(msg)
        if not self.names:
            msg = f"leads everybody to the same picture: write one of {known} in it"
            raise ValueError(msg)
        self.text = text

    def fill(self, alias: Alias, quote: Callable[[str], str] = str) -> str | None:
        """Return the text with the parts of an alias, each quoted.

        ``None`` if a part is missing, or could mean something else than a name.
        """
        parts = {"alias": str(alias), "user": alias.user, "host": alias.host}
        if not all(is_plain(parts[name]) for name in self.names):
            return None
        return self.text.format_map({name: quote(part) for name, part in parts.items()})

    @property
    def ignores_the_host(self) -> bool:
        """True if people of different domains get the same text."""
        return not self.names & {"alias", "host"}


def is_plain(part: str) -> bool:
    """Return whether a part of an alias is a name: no path, no control character, not too long."""
    if not 0 < len(part) <= MAX_LENGTH or part.strip(".") == "":
        return False
    if part.isascii() and part.isprintable():
        return "/" not in part and "\\" not in part
    return not any(
        character in "/\\" or unicodedata.category(character)[0] == "C" for character in part
    )
