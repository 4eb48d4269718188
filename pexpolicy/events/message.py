"""The parser of what a node sends: one event, or many in a bulk message, as the bytes arrive.

Nothing that a node may send is an error: what cannot be used is counted by its reason. The parser
holds one event at a time, and its caller chooses how many bytes it takes in a turn.
"""

from __future__ import annotations

import json
import math
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Generator, Mapping
from typing import Any, NoReturn

import msgspec

from pexpolicy.models.event import EVENTS, MAX_TEXT
from pexpolicy.text import readable

NOT_OURS = "not_ours"
"""JSON that is no event: no object, or one without `node`, `seq`, `time` or `event`."""
NESTED = "nested"
"""A bulk message in a bulk message in a bulk message."""
TOO_LONG = "too_long"
"""A body above `max_body_mb`, or an event of more than 4 MiB; its source is stale."""
SHORTENED = "shortened"
"""An event of more than 64 KiB, of which the texts were cut off; it counts."""
FUTURE = "future"
"""An event whose `time` is more than 5 minutes ahead of this server; it counts."""
UNKNOWN = "unknown_event"
"""An event of another name than the known ones; it counts."""
NOT_JSON = "not_json"
"""A body that is no JSON, which is answered with 400."""
QUEUE_FULL = "queue_full"
"""A message that was answered with 503, as too many events wait; the node sends it again."""
REASONS = (NOT_OURS, NESTED, TOO_LONG, SHORTENED, FUTURE, UNKNOWN, NOT_JSON, QUEUE_FULL)

BULK = "eventsink_bulk"
MAX_DEPTH = 2
"""Bulk messages in each other that are unpacked."""
MAX_VALUE = 4 << 20
"""Characters of one value; names of a megabyte fit."""
MAX_EVENT = 64 << 10
"""Bytes of an event that is stored as it is."""
MAX_KEYS = 100
"""Fields of a longer one that are kept."""
MAX_NODE, MAX_NAME, MAX_DIGITS, MAX_TIME = 64, 100, 15, 1e11
FUTURE_S = 300.0
MARGIN = 16
"""Characters at the end of a part of JSON that may be the beginning of anything."""
_BLANKS = " \t\n\r"
_AFTER = frozenset(_BLANKS + ",:]}")
_BULK_MESSAGE = object()


class NotJsonError(ValueError):
    """A body is no JSON."""


class _UnusableError(Exception):
    """The rest of a body cannot be read."""


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """An event that is to be stored: its identity and its JSON."""

    node: str
    seq: int
    time: float
    event: str
    content: str


def _whole(text: str) -> float:
    return int(text) if len(text) <= MAX_DIGITS else float(text)


def _refuse(word: str) -> NoReturn:
    raise NotJsonError(f"{word} is no JSON")


_scan = json.JSONDecoder(parse_int=_whole, parse_constant=_refuse).raw_decode


class MessageParser:
    """Parses one message. ``now`` is in seconds since 1970."""

    def __init__(self, now: float) -> None:
        self.is_unusable = False
        """Whether the rest of the body is ignored, as it cannot be read."""
        self.counts: Counter[str] = Counter()
        """Remarks by reason."""
        self._now = now
        self._decode = getincrementaldecoder("utf-8-sig")().decode
        self._text, self._at, self._is_last = "", 0, False
        self._found: list[Incoming] = []
        self._steps = self._message()

    def feed(self, piece: bytes, *, is_last: bool = False) -> list[Incoming]:
        """Take the next bytes, and return the events that are complete. Raises ``NotJsonError``."""
        if not self.is_unusable:
            try:
                self._text = self._text[self._at :] + self._decode(piece, is_last)
                self._at, self._is_last = 0, is_last
                next(self._steps, None)
            except (_UnusableError, RecursionError):
                self._skip()
            except UnicodeDecodeError as error:
                raise NotJsonError(str(error)) from None
        found, self._found = self._found, []
        return found

    def _skip(self) -> None:
        self.is_unusable, self._text = True, ""
        self.counts[TOO_LONG] += 1

    def _message(self) -> Generator[None]:
        """Parse the message, and yield where it needs more text."""
        is_object = (yield from self._next()) == "{"
        item = (yield from self._object()) if is_object else (yield from self._value())
        while not self._is_last or self._at < len(self._text):
            if self._text[self._at :].strip(_BLANKS):
                raise NotJsonError("there is more after its end")
            self._at = len(self._text)
            if not self._is_last:
                yield
        if item is not _BULK_MESSAGE:
            self._item(item, 1)

    def _object(self) -> Generator[None, None, object]:
        """Parse the object of a message; return it, or ``_BULK_MESSAGE``."""
        is_bulk = False
        envelope: dict[str, Any] = {}
        self._at += 1
        character = yield from self._next()
        while character != "}":
            name = yield from self._value()
            if not isinstance(name, str) or (yield from self._next()) != ":":
                raise NotJsonError("an object needs names and values")
            self._at += 1
            character = yield from self._next()
            if name == "data" and character == "[":
                yield from self._list()
                is_bulk = True
            else:
                value = yield from self._value()
                if name in _ENVELOPE:
                    envelope[name] = value
            character = yield from self._separator("}")
        self._at += 1
        return _BULK_MESSAGE if is_bulk else envelope

    def _list(self) -> Generator[None]:
        self._at += 1
        character = yield from self._next()
        while character != "]":
            self._item((yield from self._value()), 1)
            character = yield from self._separator("]")
        self._at += 1

    def _separator(self, end: str) -> Generator[None, None, str]:
        """Return the end of a list or an object, or what follows a comma."""
        character = yield from self._next()
        if character == end:
            return character
        self._at += 1
        following = yield from self._next()
        if character != "," or following == end:
            raise NotJsonError("a comma is missing or too much")
        return following

    def _next(self) -> Generator[None, None, str]:
        """Return the next character that is no blank."""
        while True:
            rest = self._text[self._at : self._at + MARGIN].lstrip(_BLANKS)
            if rest:
                self._at = self._text.index(rest[0], self._at)
                return rest[0]
            self._at = min(self._at + MARGIN, len(self._text))
            if self._at == len(self._text):
                if self._is_last:
                    raise NotJsonError("it is cut off")
                yield

    def _value(self) -> Generator[None, None, Any]:
        """Return the next value, after a blank or the end of a name."""
        yield from self._next()
        while True:
            length = len(self._text) - self._at
            try:
                value, end = _scan(self._text, self._at)
                # A number may go on.
                if self._is_last or self._text[end : end + 1] in _AFTER:
                    self._at = end
                    return value
                if end + MARGIN < len(self._text):
                    raise NotJsonError("there is no end of a value")
            except json.JSONDecodeError as error:
                is_cut_off = error.msg.startswith("Unterminated") or (
                    error.pos > len(self._text) - MARGIN
                )
                if self._is_last or not is_cut_off:
                    raise NotJsonError(error.msg) from None
            if length > MAX_VALUE:
                raise _UnusableError
            # Scanned again when there is twice as much, a long text costs no more than its length.
            while len(self._text) - self._at < 2 * length and not self._is_last:
                yield

    def _item(self, item: object, depth: int) -> None:
        """Take an event, or what an inner bulk message holds."""
        data = item.get("data") if isinstance(item, dict) else None
        if isinstance(data, list) and depth < MAX_DEPTH:
            for inner in data:
                self._item(inner, depth + 1)
        elif isinstance(data, list):
            self.counts[NESTED] += 1
        elif (envelope := _envelope(item)) is None:
            self.counts[NOT_OURS] += 1
        else:
            self.counts[UNKNOWN] += envelope["event"] not in EVENTS
            self.counts[FUTURE] += envelope["time"] > self._now + FUTURE_S
            content = _encoded(envelope)
            if len(content) > MAX_EVENT:
                self.counts[SHORTENED] += 1
                content = _encoded({**envelope, "data": _shortened(envelope["data"])})
            identity = envelope["node"], envelope["seq"], envelope["time"]
            self._found.append(Incoming(*identity, envelope["event"], content.decode()))


_ENVELOPE = ("node", "seq", "version", "time", "event", "data")


def _envelope(item: Any) -> dict[str, Any] | None:
    """Return the envelope of an event with all its keys, or ``None`` if one cannot be used."""
    if not isinstance(item, dict):
        return None
    node, name, version, data = map(item.get, ("node", "event", "version", "data"))
    seq, time = _number(item.get("seq")), _number(item.get("time"))
    if (
        not isinstance(node, str)
        or not 0 < len(node) <= MAX_NODE
        or not node.isprintable()
        or not isinstance(name, str)
        or not 0 < len(name) <= MAX_NAME
        or not name.isprintable()
        or name == BULK
        or seq is None
        or not 0 <= seq < 10**MAX_DIGITS
        or seq != int(seq)
        or time is None
        or not abs(time) < MAX_TIME
    ):
        return None
    return {
        "node": node,
        "seq": int(seq),
        "version": version if isinstance(version, int) else 2,
        "time": float(time),
        "event": name,
        "data": data if isinstance(data, dict) else {},
    }


def _number(value: object) -> float | None:
    """Return a number, also of a text."""
    try:
        found = float(value) if isinstance(value, str) and len(value) < MAX_NODE else value
    except ValueError:
        return None
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return found if is_number and math.isfinite(found) else None  # type: ignore[arg-type,return-value]


def _encoded(envelope: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(envelope)
    except UnicodeEncodeError:  # half of a pair
        return msgspec.json.encode(readable(envelope))


def _shortened(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields without lists and tables, with the beginnings of texts."""
    kept = [*data.items()][:MAX_KEYS]
    return {
        name[:MAX_NAME]: value[:MAX_TEXT] if isinstance(value, str) else value
        for name, value in kept
        if isinstance(value, str | int | float | None)
    }
