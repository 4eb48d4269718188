"""Filters of placeholders: what changes a value before it is inserted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from pexpolicy.matching import PatternError, Replacement
from pexpolicy.text import brief, did_you_mean

_QUOTED = r"'[^']*'|\"[^\"]*\""
_FILTER = re.compile(rf"\s*\|\s*(\w+)\s*(?:\(((?:{_QUOTED}|[^'\"()])*)\)\s*)?")
_ARGUMENT = re.compile(rf"\s*({_QUOTED}|[0-9]{{1,4}})\s*(?:,|$)")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}").fullmatch
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
Filter = Callable[[str], str]
Argument = str | int


class FilterError(ValueError):
    """A filter that does not exist, or with wrong arguments; the text says what to write."""


class ConversionError(ValueError):
    """A value that a filter cannot use; the text says why, without the value."""


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of one placeholder, in their order, and the type of its value."""

    key: str
    """The key in front of the filters."""
    steps: tuple[Filter, ...] = ()
    type: str = ""
    """``boolean``, ``integer`` or empty: a text."""
    hashes: bool = False
    """True where the value is hashed."""

    def apply(self, value: str) -> Any:
        """Return the filtered value; raise ``ConversionError``."""
        for step in self.steps:
            value = step(value)
        return _TYPES[self.type](value) if self.type else value

    def sample(self, value: str) -> Any:
        """Return the filtered value of a sample, or any value of the type."""
        try:
            return self.apply(value)
        except ConversionError:
            return _TYPES[self.type]("1") if self.type else value


def read_filters(written: str, secret: str = "") -> Filters:
    """Return the key and the filters of a placeholder; raise ``FilterError``.

    ``secret`` precedes each value that is hashed.
    """
    key, bar, _ = written.partition("|")
    steps: list[Filter] = []
    kind, hashes, at = "", False, len(key)
    while bar and at < len(written):
        found = _FILTER.match(written, at)
        if found is None or kind:
            where = f"after {kind}" if kind else "here"
            rest = brief(written[at:].strip())
            raise FilterError(f"{where} is no filter: {rest}; write | NAME or | NAME(ARGUMENT)")
        at = found.end()
        name = found[1]
        arguments = _arguments(name, found[2])
        if name in _TYPES and not arguments:
            kind = name
        else:
            steps.append(_step(name, arguments, secret))
            hashes = hashes or name == "hash"
    return Filters(key.strip(), tuple(steps), kind, hashes)


def _arguments(name: str, written: str | None) -> list[Argument]:
    arguments: list[Argument] = []
    written, at = (written or "").strip(), 0
    while at < len(written):
        found = _ARGUMENT.match(written, at)
        if found is None:
            text = f"{name}({written}): an argument is a number, or a text in quotes"
            raise FilterError(text)
        argument = found[1]
        arguments.append(int(argument) if argument.isdigit() else argument[1:-1])
        at = found.end()
    return arguments


def _step(name: str, arguments: list[Argument], secret: str) -> Filter:
    if name not in _SHAPES:
        guess = did_you_mean(name, [*_SHAPES, *_TYPES])
        guess = guess or f"; there are {', '.join((*_SHAPES, *_TYPES))}"
        raise FilterError(f"there is no filter {name!r}{guess}")
    usage, types, make = _SHAPES[name]
    if tuple(map(type, arguments)) != types:
        raise FilterError(f"{name} is written {usage}")
    return make(secret) if name == "hash" else make(*arguments)


def _hash(secret: str) -> Filter:
    """Return a filter that hashes as ``pex_hash`` of Infinity: SHA-256 as a decimal number."""

    def step(value: str) -> str:
        text = f"{secret}{value}".encode("utf-8", "replace")
        return value and str(int(hashlib.sha256(text).hexdigest(), 16))

    return step


def _head(count: int) -> Filter:
    return lambda value: value[:count]


def _tail(count: int) -> Filter:
    return lambda value: value[max(len(value) - count, 0) :]


def _replace(pattern: str, template: str) -> Filter:
    try:
        replacement = Replacement(pattern, template)
    except PatternError as error:
        raise FilterError(f"the pattern {brief(pattern)} {error}") from None

    def step(value: str) -> str:
        if not value:
            return value
        try:
            return replacement.apply(value)
        except ValueError as error:
            raise ConversionError(f"the value {error}") from None

    return step


def _boolean(value: str) -> bool:
    try:
        return _BOOLEANS[value.strip().lower()]
    except KeyError:
        raise ConversionError(f"{_what(value)} is not true or false") from None


def _integer(value: str) -> int:
    if _INTEGER(value.strip()) is None:
        raise ConversionError(f"{_what(value)} is not a whole number")
    return int(value)


def _what(value: str) -> str:
    return "the value" if value else "an empty value"


_TYPES: Mapping[str, Callable[[str], Any]] = {"boolean": _boolean, "integer": _integer}
_SHAPES: Mapping[str, tuple[str, tuple[type, ...], Callable[..., Filter]]] = {
    "upper": ("upper", (), lambda: str.upper),
    "lower": ("lower", (), lambda: str.lower),
    "head": ("head(4), the first 4 characters", (int,), _head),
    "tail": ("tail(4), the last 4 characters", (int,), _tail),
    "replace": ('replace("[^0-9]", ""), a pattern and what replaces it', (str, str), _replace),
    "hash": ("hash", (), _hash),
    "uuid": ("uuid", (), lambda: lambda value: value and str(uuid5(NAMESPACE_OID, value))),
    "default": ('default("text")', (str,), lambda text: lambda value: value or text),
}
"""How each filter is written, the types of its arguments, and what makes it."""
