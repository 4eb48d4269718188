"""Short and safe forms of values and names, and suggestions for misspelt names."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any
from unicodedata import category

import msgspec

MAX_BITS = 200
MAX_NAME = 80
MAX_LISTED = 60
MAX_GUESSED = 64
"""Longer words are not compared: it would take long, and they are not typing errors."""
_MIN_LETTERS = 4
"""Letters from which on one may be wrong, or the beginning of a word stands for it, as ``cert``."""


def brief(value: Any, limit: int = 60) -> str:
    """Return any value on one short line, without calling its methods."""
    kind = type(value)
    if kind is str or kind is bytes:
        return f"{value[:limit]!r}… ({len(value)} long)" if len(value) > limit else repr(value)
    if kind is int and value.bit_length() > MAX_BITS:
        return f"a number of more than {MAX_BITS} bits"
    if value is None or kind in (bool, int, float):
        return repr(value)[:limit]
    is_class = issubclass(kind, type)
    name = type.__dict__["__name__"].__get__(value if is_class else kind)[:limit]
    return f"the class {name}" if is_class else article(name)


def article(noun: str) -> str:
    """Return a noun after its indefinite article."""
    return f"an {noun}" if noun[:1] in "aeiouAEIOU" else f"a {noun}"


def brief_name(name: str) -> str:
    """Return the name of a field, cut to ``MAX_NAME`` characters."""
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return ``; did you mean 'x'?`` where a known name is spelt almost the same, else nothing.

    Each word must resemble the word in its place and begin with the same letter, and each number
    be the same, so that no suggestion changes the meaning: ``not_between`` is not ``between``,
    ``disabled`` not ``enabled``, ``host_pin`` not ``guest_pin``, and ``GMT+1`` not ``GMT-1``.
    """
    words = _words(name)
    if len(name) > MAX_GUESSED or not words:
        return ""
    alike = [
        one
        for one in known
        if len(one) <= MAX_GUESSED
        and _NUMBERS(name) == _NUMBERS(one)
        and _are_alike(words, _words(one))
    ]
    near = get_close_matches(name, alike, n=1, cutoff=0.0)
    return f"; did you mean {near[0]!r}?" if near else ""


def suggest(name: str, known: Collection[str]) -> str:
    """Return the known name that is meant, or else the names that there are, after a semicolon."""
    listed = list(known)[:MAX_LISTED]
    more = f" and {len(known) - MAX_LISTED} more" if len(known) > MAX_LISTED else ""
    return did_you_mean(name, known) or (f"; there are {', '.join(listed)}{more}" if known else "")


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())


def _are_alike(words: list[str], others: list[str]) -> bool:
    if sorted(words) == sorted(others) or "".join(words) == "".join(others):
        return True
    return len(words) == len(others) and all(map(is_typo, words, others))


_NUMBERS = re.compile(r"\+?\d+").findall


def is_typo(word: str, other: str) -> bool:
    """Return whether one letter is moved, or one is wrong, missing or too much, but not the first,
    or one word is the beginning of the other.
    """
    short, long = sorted((word, other), key=len)
    if long.startswith(short):  # but cannot and doesnt negate can and does
        enough = _MIN_LETTERS if len(long) - len(short) > 1 else _MIN_LETTERS - 1
        return short == long or (len(short) >= enough and not long.endswith(("nt", "not")))
    if len(short) < len(long):
        return short in _without_one(long)
    if sorted(word) == sorted(other):
        return not _without_one(word, 0).isdisjoint(_without_one(other, 0))
    return len(word) >= _MIN_LETTERS and not _without_one(word).isdisjoint(_without_one(other))


def _without_one(word: str, start: int = 1) -> set[str]:
    """Return a word without one of its letters, for each letter from ``start`` on."""
    return {word[:at] + word[at + 1 :] for at in range(start, len(word))}


def is_without_colour() -> bool:
    """Return whether the environment asks for text without colours (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


def is_utf8(text: str) -> bool:
    """Return whether a text can be written in UTF-8: other bytes of arguments are surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def printable(text: object) -> str:
    """Return text without characters that would command the terminal, or that are not seen but
    hide or reorder what is next to them. Blanks of any kind are left.
    """
    return "".join(
        c if c.isprintable() or category(c) == "Zs" else "\N{REPLACEMENT CHARACTER}"
        for c in str(text)
    )


def printable_lines(text: object) -> str:
    """Return a text of several lines without such characters."""
    return "\n".join(map(printable, str(text).split("\n")))


_CONTROLS = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C1 controls, marks that change the direction or the end of a line of text, and no text."""


def escape_controls(encoded: str) -> str:
    """Return JSON with control characters escaped, which would command a terminal."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", encoded)


def readable(value: Any) -> Any:
    """Return a value that JSON can hold: with ``?`` for what UTF-8 cannot encode, and the type of
    what is neither text nor number.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, msgspec.Struct):
        return readable(msgspec.structs.asdict(value))
    if isinstance(value, Mapping):
        return {readable(name): readable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [readable(item) for item in value]
    try:
        msgspec.json.encode(value)
    except Exception:  # noqa: BLE001 - such as an object of a plugin
        return f"({type(value).__name__})"
    return value
