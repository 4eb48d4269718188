"""Text with placeholders for values of a request."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pexpolicy import Request
from pexpolicy.matching import UnknownSubjectError, subject

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
Captured = Mapping[str, str]
Fill = Callable[[Request, Captured], str]


class PlaceholderError(ValueError):
    """A placeholder that nothing is known for; the text says what to write."""


def has_placeholders(value: Any) -> bool:
    """True for text with a brace in it, anywhere in a value."""
    if isinstance(value, dict):
        return any(has_placeholders(part) for part in value.values())
    if isinstance(value, list):
        return any(has_placeholders(part) for part in value)
    return isinstance(value, str) and ("{" in value or "}" in value)


def filled(value: Any, request: Request, captured: Captured) -> Any:
    """A value as ``prepared`` made it, with every text filled in."""
    if isinstance(value, dict):
        return {key: filled(part, request, captured) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part, request, captured) for part in value]
    return value.fill(request, captured) if isinstance(value, Text) else value


def unfillable(
    value: Any, groups: Collection[str], key: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each placeholder that nothing is known for: its key, and what to write."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from unfillable(part, groups, (*key, name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from unfillable(part, groups, (*key, number))
    elif isinstance(value, str):
        pieces = list(_PIECE.finditer(value))
        # Behind a brace without its partner, none of the others is what it seems.
        single = [piece for piece in pieces if len(piece[0]) == 1]
        for piece in single[:1] or pieces:
            try:
                _piece(piece, groups)
            except PlaceholderError as error:
                yield key, str(error)


def prepared(value: Any, groups: Collection[str]) -> Any:
    """A value with its texts taken apart; ``unfillable`` says what cannot be.

    ``groups`` are the numbers and names of what the conditions capture.
    """
    if isinstance(value, dict):
        return {key: prepared(part, groups) for key, part in value.items()}
    if isinstance(value, list):
        return [prepared(part, groups) for part in value]
    return Text(value, groups) if has_placeholders(value) else value


def sampled(value: Any, sample: str) -> Any:
    """A value with the same text in the place of each placeholder."""
    if isinstance(value, dict):
        return {key: sampled(part, sample) for key, part in value.items()}
    if isinstance(value, list):
        return [sampled(part, sample) for part in value]
    if not isinstance(value, str):
        return value
    return _PIECE.sub(lambda found: found[0][0] if found[1] is None else sample, value)


class Text:
    """A text with placeholders: ``{1}`` or ``{name}`` for what was captured, and the name of
    anything that a condition may look at, such as ``{remote_alias.user}``. ``{{`` is a brace.
    """

    def __init__(self, written: str, groups: Collection[str]) -> None:
        self._pieces: list[str | Fill] = []
        at = 0
        for found in _PIECE.finditer(written):
            self._pieces.append(written[at : found.start()])
            self._pieces.append(_piece(found, groups))
            at = found.end()
        self._pieces.append(written[at:])

    def fill(self, request: Request, captured: Captured) -> str:
        """The text with the values of one request; what is unset is empty."""
        return "".join(p if isinstance(p, str) else p(request, captured) for p in self._pieces)

    def lacks_value(self, request: Request, captured: Captured) -> bool:
        """True where one of the placeholders has no value."""
        return any(not p(request, captured) for p in self._pieces if not isinstance(p, str))


def _piece(found: re.Match[str], groups: Collection[str]) -> str | Fill:
    written = found[0]
    if written in ("{{", "}}"):
        return written[0]
    if len(written) == 1:
        msg = f"a single {written} stands for nothing; write {written * 2} for the brace itself"
        raise PlaceholderError(msg)
    name = found[1].strip()
    if name in groups:
        return lambda _, captured: captured.get(name, "")
    if name.isdigit():
        there = f"groups up to {{{_last(groups)}}}" if groups else "no groups"
        msg = f"{written} is nothing that was captured: the patterns of this rule have {there}"
        raise PlaceholderError(msg)
    try:
        sought = subject(name)
    except UnknownSubjectError as error:
        raise PlaceholderError(f"{written}: {error}") from None
    if sought.secret:
        msg = f"{written} is a secret, and is not passed on"
        raise PlaceholderError(msg)
    return lambda request, _: _first(sought.read(request))


def _first(values: tuple[Any, ...]) -> str:
    """The first value as Infinity writes it."""
    return str(values[0]) if values else ""


def _last(groups: Collection[str]) -> int:
    return max((int(group) for group in groups if group.isdigit()), default=0)
