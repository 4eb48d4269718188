"""Placeholders for values of a request in texts, and filters that change a value."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from pexpolicy import Request
from pexpolicy.matching import PatternError, Replacement, UnknownSubjectError, subject
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
    kind, at = "", len(key)
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
    return Filters(key.strip(), tuple(steps), kind)


def _arguments(name: str, written: str | None) -> list[Argument]:
    arguments: list[Argument] = []
    written, at = (written or "").strip(), 0
    while at < len(written):
        found = _ARGUMENT.match(written, at)
        if found is None:
            raise FilterError(f"{name}({written}): an argument is a number, or a text in quotes")
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


# A text in quotes, which only filters have, may contain braces.
_PIECE = re.compile(
    r"""\{\{|\}\}|\{((?:[^{}'"|]*)(?:\|(?:[^{}'"]|'[^']*'|"[^"]*")*)|[^{}]*)\}|[{}]"""
)
DECISION_ID = "decision_id"
"""The placeholder of the ID of the call."""
Captures = Mapping[str, str]
Fill = Callable[[Request, Captures], Any]
Key = tuple[str | int, ...]


class PlaceholderError(ValueError):
    """A placeholder without a meaning; the text says what to write."""


def has_placeholders(value: Any) -> bool:
    """Return whether any text of a value has a brace."""
    return any("{" in text or "}" in text for _, text in _texts(value, ()))


def render(value: Any, request: Request, captures: Captures) -> Any:
    """Return a value of ``compile_texts`` with every text rendered; raise ``ConversionError``."""
    return _map(value, lambda v: v.fill(request, captures) if isinstance(v, Text) else v)


def placeholder_issues(value: Any, groups: Collection[str]) -> Iterator[tuple[Key, str]]:
    """Yield each placeholder without a meaning: its key, and what to write."""
    for key, text in _texts(value, ()):
        pieces = list(_PIECE.finditer(text))
        # After an unpaired brace, the other pieces cannot be trusted.
        unpaired = [piece for piece in pieces if len(piece[0]) == 1]
        for piece in unpaired[:1] or pieces:
            try:
                _compile_piece(piece, groups)
            except PlaceholderError as error:
                yield key, str(error)


def unfilled_placeholders(
    value: Any, groups: Collection[str], request: type[Request]
) -> Iterator[str]:
    """Yield a warning for each placeholder that requests of this type never fill."""
    for _, text in _texts(value, ()):
        for found in _PIECE.finditer(text):
            name = (found[1] or "").partition("|")[0].strip()
            with suppress(UnknownSubjectError):
                if name not in (*groups, "", DECISION_ID) and not subject(name).is_of(request):
                    head = name.partition(".")[0]
                    yield f"{found[0]} is always empty: these requests have no {head}"


def compile_texts(value: Any, groups: Collection[str], secret: str = "") -> Any:
    """Return a value with its texts compiled; raise ``PlaceholderError``.

    ``groups`` are the numbers and names of the groups that the conditions capture, ``secret``
    precedes what is hashed.
    """
    return _map(value, lambda v: Text(v, groups, secret) if has_placeholders(v) else v)


def with_sample(value: Any, sample: str) -> Any:
    """Return a value with the same text, filtered, instead of each placeholder."""

    def filled(found: re.Match[str]) -> Any:
        if found[1] is None:
            return found[0][0]
        try:
            return read_filters(found[1]).sample(sample)
        except FilterError:
            return sample

    def replaced(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        whole = _PIECE.fullmatch(text)
        return filled(whole) if whole else _PIECE.sub(lambda found: str(filled(found)), text)

    return _map(value, replaced)


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return a nested value with a function applied to each scalar."""
    if isinstance(value, dict):
        return {key: _map(part, function) for key, part in value.items()}
    return [_map(part, function) for part in value] if isinstance(value, list) else function(value)


def _texts(value: Any, key: Key) -> Iterator[tuple[Key, str]]:
    """Yield each text of a nested value with its key."""
    if isinstance(value, dict | list):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(part, (*key, name))
    elif isinstance(value, str):
        yield key, value


class Text:
    """A text with placeholders: ``{1}`` or ``{name}`` for groups, and the key of any subject of a
    condition, such as ``{remote_alias.user}``, with filters. ``{{`` is a brace.
    """

    def __init__(self, source: str, groups: Collection[str], secret: str = "") -> None:
        self._pieces: list[str | Fill] = []
        at = 0
        for found in _PIECE.finditer(source):
            self._pieces.append(source[at : found.start()])
            self._pieces.append(_compile_piece(found, groups, secret))
            at = found.end()
        self._pieces.append(source[at:])
        self._pieces = [piece for piece in self._pieces if piece != ""]

    def fill(self, request: Request, captures: Captures) -> Any:
        """Return the text with the values of a request; an unset value is empty.

        A placeholder alone may be of another type. Raise ``ConversionError``.
        """
        pieces = [p if isinstance(p, str) else p(request, captures) for p in self._pieces]
        return pieces[0] if len(pieces) == 1 else "".join(map(str, pieces))

    def lacks_value(self, request: Request, captures: Captures) -> bool:
        """Return whether any placeholder has no value."""
        return any(p(request, captures) == "" for p in self._pieces if not isinstance(p, str))


def _compile_piece(found: re.Match[str], groups: Collection[str], secret: str = "") -> str | Fill:
    piece = found[0]
    if piece in ("{{", "}}"):
        return piece[0]
    if len(piece) == 1:
        msg = f"a single {piece} has no meaning; write {piece * 2} for the brace itself"
        raise PlaceholderError(msg)
    try:
        filters = read_filters(found[1], secret)
    except FilterError as error:
        raise PlaceholderError(f"{piece}: {error}") from None
    read = _reader(piece, filters.key, groups)
    if not filters.steps and not filters.type:
        return read

    def fill(request: Request, captures: Captures) -> Any:
        try:
            return filters.apply(read(request, captures))
        except ConversionError as error:
            raise ConversionError(f"{piece}: {error}") from None

    return fill


def _reader(piece: str, name: str, groups: Collection[str]) -> Callable[[Request, Captures], str]:
    """Return what reads the value of a placeholder; raise ``PlaceholderError``."""
    if name in groups:
        return lambda _, captures: captures.get(name, "")
    if name.isdigit():
        last = max((int(group) for group in groups if group.isdigit()), default=0)
        available = f"groups up to {{{last}}}" if groups else "no groups"
        msg = f"{piece} is not a group: the patterns of this rule have {available}"
        raise PlaceholderError(msg)
    if name == DECISION_ID:
        return lambda request, _: request.decision_id
    try:
        value = subject(name)
    except UnknownSubjectError as error:
        raise PlaceholderError(f"{piece}: {error}") from None
    if value.secret:
        raise PlaceholderError(f"{piece} is a secret, which a decision cannot use")
    return lambda request, _: _first(value.read(request))


def _first(values: tuple[Any, ...]) -> str:
    """Return the first value in the spelling of Infinity."""
    return str(values[0]) if values else ""
