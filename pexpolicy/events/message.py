"""The parser of what a node sends: one event, or many in a bulk message, as the bytes arrive.

Nothing that a node may send is an error: what cannot be used is counted by its reason.
"""

from __future__ import annotations

import json
import re
import sys
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta

from pexpolicy.models.event import EVENTS, MAX_TEXT, STALE
from pexpolicy.text import readable

# The reasons of remarks; docs/events.md has what each means.
NOT_OURS, NESTED, TOO_LONG, SHORTENED = "not_ours", "nested", "too_long", "shortened"
FUTURE, UNKNOWN, NOT_JSON, QUEUE_FULL = "future", "unknown_event", "not_json", "queue_full"
BULK = "eventsink_bulk"
MAX_DEPTH = 2
"""Bulk messages in each other that are unpacked."""
MAX_VALUE = 1 << 20
"""Characters of an event, with names of a megabyte, and of all that is not in a list of events."""
MAX_EVENT = 16 << 10
"""Bytes of an event that is stored as it is."""
MAX_NAME, MAX_DIGITS = 100, 15
FUTURE_S = 300.0
MAX_HEAD = 4096
"""Characters in which the list of a bulk message begins; else the message is parsed as a whole."""
MARGIN = 16
"""Characters at the end of a part of JSON that may be the beginning of anything."""
_TEXT = r'"(?:[^"\\]|\\.)*+"'
_FIELD = rf'\s*(?!"data"){_TEXT}\s*:(?:\s*{_TEXT}\s*|[^",\[\]{{}}]*+),'
_LIST = re.compile(rf'\s*\{{(?:{_FIELD})*\s*"data"\s*:\s*\[')
_blanks: Any = re.compile(r"[ \t\n\r]*").match


class NotJsonError(ValueError):
    """A body is no JSON."""


def _whole(text: str) -> float:
    return int(text) if len(text) <= MAX_DIGITS else float(text)


def _refuse(word: str) -> NoReturn:
    raise NotJsonError(f"{word} is no JSON")


_json = json.JSONDecoder(parse_int=_whole, parse_constant=_refuse)


class MessageParser:
    """Parses one message. ``now`` is in seconds since 1970."""

    def __init__(self, now: float) -> None:
        self.is_unusable = False
        """Whether the rest of the body is ignored, as it cannot be read."""
        self.counts: Counter[str] = Counter()
        """Remarks by reason."""
        self._now = now
        self._decode = getincrementaldecoder("utf-8-sig")().decode
        self._text = ""
        self._head = ""
        """All before the first event of a bulk message."""
        self._is_in_list = False
        self._comma = ""
        """What has to come before the next event."""
        self._enough = 0
        """Characters with which an event may be complete."""

    @property
    def stored(self) -> int:
        """Bytes of memory that what is not complete yet takes."""
        return sys.getsizeof(self._text) if self._text else 0

    def feed(self, piece: bytes, *, is_last: bool = False) -> Iterator[str | None]:
        """Take the next bytes, and yield the events that are complete, as JSON of an envelope with
        all its keys; ``None`` for what cannot be used. Raises ``NotJsonError``.
        """
        try:
            if not self.is_unusable:
                self._text += self._decode(piece, is_last)
                yield from self._parse(is_last=is_last)
        except RecursionError:
            self._skip()
        except ValueError as error:
            raise NotJsonError(str(error)) from None

    def _skip(self) -> None:
        self.is_unusable, self._text = True, ""
        self.counts[TOO_LONG] += 1

    def _parse(self, *, is_last: bool) -> Iterator[str | None]:
        if not self._head and (found := _LIST.match(self._text[:MAX_HEAD])):
            self._head, self._text = found[0], self._text[found.end() :]
            self._is_in_list = True
        if self._is_in_list and (len(self._text) >= self._enough or is_last):
            yield from self._parse_list(is_last=is_last)
        if len(self._text) > MAX_VALUE:
            self._skip()
        elif is_last and not self._is_in_list:
            message = _json.decode(self._head + self._text)
            if not self._head:
                yield from self._items(message, 1)
        elif is_last:
            raise NotJsonError("it is cut off")

    def _parse_list(self, *, is_last: bool) -> Iterator[str | None]:
        """Yield the complete events, up to the end of the list."""
        text, at = self._text, _blanks(self._text, 0).end()
        while at < len(text):
            if text[at] == "]" and self._comma != ",]":
                self._is_in_list = False
                break
            if self._comma == ",":
                if text[at] != ",":
                    raise NotJsonError("a comma is missing")
                self._comma = ",]"
                at = _blanks(text, at + 1).end()
                continue
            try:
                value, end = _json.raw_decode(text, at)
            except json.JSONDecodeError as error:
                is_cut_off = error.msg.startswith("Unterminated") or (
                    error.pos > len(text) - MARGIN
                )
                if is_last or not is_cut_off:
                    raise
                break
            if end == len(text):
                break  # a number may go on
            yield from self._items(value, 1)
            self._comma = ","
            at = _blanks(text, end).end()
        self._text = text[at:]
        # Parsed again when there is twice as much, a long event costs no more than its length.
        self._enough = min(2 * len(self._text), MAX_VALUE)

    def _items(self, item: object, depth: int) -> Iterator[str | None]:
        """Yield an event, or what an inner bulk message holds."""
        data = item.get("data") if isinstance(item, dict) else None
        if isinstance(data, list) and depth < MAX_DEPTH:
            for inner in data:
                yield from self._items(inner, depth + 1)
        elif isinstance(data, list):
            self.counts[NESTED] += 1
            yield None
        elif (envelope := _envelope(item)) is None:
            self.counts[NOT_OURS] += 1
            yield None
        else:
            self.counts[UNKNOWN] += envelope.event not in EVENTS
            self.counts[FUTURE] += envelope.time > self._now + FUTURE_S
            content = _encoded(envelope)
            if len(content) > MAX_EVENT:
                self.counts[SHORTENED] += 1
                envelope.data = _shortened(envelope.data)
                content = _encoded(envelope)
            yield content.decode()


class _Envelope(msgspec.Struct, kw_only=True):
    node: Annotated[str, Meta(min_length=1, max_length=64)]
    seq: Annotated[int, Meta(ge=0, lt=10**MAX_DIGITS)]
    version: Any = 2
    time: Annotated[float, Meta(gt=0, lt=1e11)]
    event: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    data: Any = None


def _envelope(item: object) -> _Envelope | None:
    """Return the envelope of an event, or ``None`` if one of its keys cannot be used."""
    try:
        found = msgspec.convert(item, _Envelope, strict=False)  # numbers may be texts
    except (msgspec.ValidationError, UnicodeEncodeError):
        return None
    if found.event in (BULK, STALE) or not (found.node + found.event).isprintable():
        return None
    found.version = found.version if isinstance(found.version, int) else 2
    found.data = found.data if isinstance(found.data, dict) else {}
    return found


def _encoded(envelope: _Envelope) -> bytes:
    try:
        return msgspec.json.encode(envelope)
    except UnicodeEncodeError:  # half of a pair
        return msgspec.json.encode(readable(msgspec.structs.asdict(envelope)))


def _shortened(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields without lists and tables, with the beginnings of texts."""
    kept = {
        name: one[:MAX_TEXT] if isinstance(one, str) else one
        for name, one in data.items()
        if isinstance(one, str | int | float | None)
    }
    return kept if len(kept) < MAX_NAME else {}
