"""Short and safe forms of values and names, and suggestions for misspelt names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from difflib import SequenceMatcher
from typing import Any

MAX_BITS = 200
MAX_NAME = 80
MAX_LISTED = 60
MAX_GUESSED = 64
"""Longer words are not compared: it would take long, and they are not typing errors."""
_MIN_BEGINNING = 4
"""Letters from which on the beginning of a word stands for it, as ``cert`` for ``certificate``."""


def brief(value: object, limit: int = 60) -> str:
    """Return any value on one short line, without calling its methods."""
    kind = type(value)
    if kind is str or kind is bytes:
        text: str | bytes = value  # type: ignore[assignment]
        if len(text) > limit:
            return f"{text[:limit]!r}… ({len(text)} long)"
        return repr(text)
    if kind is int and value.bit_length() > MAX_BITS:  # type: ignore[attr-defined]
        return f"a number of more than {MAX_BITS} bits"
    if value is None or kind in (bool, int, float):
        return repr(value)[:limit]
    return article(type.__dict__["__name__"].__get__(kind)[:limit])


def article(noun: str) -> str:
    """Return a noun after its indefinite article."""
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def brief_name(name: str) -> str:
    """Return the name of a field, cut to ``MAX_NAME`` characters."""
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return ``; did you mean 'x'?`` where a known name is spelt almost the same, else nothing.

    Each word must resemble the word in its place and begin with the same letter, so that no
    suggestion changes the meaning: ``not_between`` is not ``between``, ``disabled`` not
    ``enabled``, and ``host_pin`` not ``guest_pin``.
    """
    words = _words(name)
    if len(name) > MAX_GUESSED or not words:
        return ""
    near = [
        (SequenceMatcher(None, "".join(words), "".join(others)).ratio(), one)
        for one in known
        if len(one) <= MAX_GUESSED and _are_alike(words, others := _words(one))
    ]
    return f"; did you mean {max(near)[1]!r}?" if near else ""


def suggest(name: str, known: Collection[str]) -> str:
    """Return the known name that is meant, or else the names that there are, after a semicolon."""
    listed = list(known)[:MAX_LISTED]
    more = f" and {len(known) - MAX_LISTED} more" if len(known) > MAX_LISTED else ""
    return did_you_mean(name, known) or (f"; there are {', '.join(listed)}{more}" if known else "")


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())


def _are_alike(words: list[str], others: list[str]) -> bool:
    word, other = "".join(words), "".join(others)
    if sorted(words) == sorted(others):
        return True
    if len(words) != len(others):
        return word == other or (abs(len(word) - len(other)) <= 1 and is_typo(word, other))
    return all(map(is_typo, words, others))


def is_typo(word: str, other: str) -> bool:
    """Return whether letters are swapped or some are wrong, but not the first, or one word is the
    beginning of the other.
    """
    short, long = sorted((word, other), key=len)
    if sorted(word) == sorted(other):
        return True
    if word[:1] != other[:1] or any(c.isdigit() for c in word + other):
        return False
    slips = sum(map(str.__ne__, word, other)) + len(long) - len(short)
    is_close = len(short) >= _MIN_BEGINNING and (long.startswith(short) or slips == 1)
    return is_close or SequenceMatcher(None, word, other).ratio() >= 0.78  # noqa: PLR2004 - by trial


def is_without_colour() -> bool:
    """Return whether the environment asks for text without colours (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


def is_utf8(text: str) -> bool:
    """Return whether a text can be written in UTF-8: other bytes of arguments are surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def printable(text: object) -> str:
    """Return text without control characters, which would command the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def readable(value: Any) -> Any:
    """Return a value of built-in types with ``?`` for what UTF-8 cannot encode."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {readable(name): readable(item) for name, item in value.items()}
    return [readable(item) for item in value] if isinstance(value, list | tuple) else value
