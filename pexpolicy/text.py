"""Short and safe forms of values and names for messages."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from pexpolicy.synonyms import synonym

MAX_BITS = 200
MAX_GUESSED = 64
"""Longer words than this are no slips of the pen; comparing them would take long."""


def brief(value: object, limit: int = 60) -> str:
    """A value on one short line, whatever it is; no method of its own is called."""
    kind = type(value)
    if kind is str or kind is bytes:
        written: str | bytes = value  # type: ignore[assignment]
        if len(written) > limit:
            return f"{written[:limit]!r}… ({len(written)} long)"
        return repr(written)
    if kind is int and value.bit_length() > MAX_BITS:  # type: ignore[attr-defined]
        return f"a number of more than {MAX_BITS} bits"
    if value is None or kind in (bool, int, float):
        return repr(value)[:limit]
    return article(type.__dict__["__name__"].__get__(kind)[:limit])


def article(noun: str) -> str:
    """A noun behind the article that it takes."""
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def brief_name(name: str, limit: int = 80) -> str:
    """The name of a field, cut where it is absurdly long."""
    return name if len(name) <= limit else f"{name[:limit]}…"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return ``; did you mean 'x'?`` where a known name is meant or close, else nothing.

    What people are known to write for another name comes first, and then the letters.
    """
    if len(name) > MAX_GUESSED:
        return ""
    if (meant := synonym(name, known)) is not None:
        return f"; did you mean {meant!r}?" if meant else ""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def printable(text: object) -> str:
    """Text without control characters: a caller chooses it, and must not command the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
