"""The parser of what a node sends: one event, or many in a bulk message, as the bytes arrive.

Nothing that a node may send is an error: what cannot be used is counted by its reason.
"""

from __future__ import annotations

import json
import math
import re
from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from pexpolicy.models.event import EVENTS, MAX_TEXT, STALE
from pexpolicy.text import readable

# The reasons of remarks; docs/events.md has what each means.
NOT_OURS, NESTED, TOO_LONG, SHORTENED = "not_ours", "nested", "too_long", "shortened"
FUTURE, UNKNOWN, NOT_JSON, QUEUE_FULL = "future", "unknown_event", "not_json", "queue_full"
BULK = "eventsink_bulk"
MAX_DEPTH = 2
"""Bulk messages in each other that are unpacked."""
MAX_VALUE = 4 << 20
"""Characters of an event, with names of a megabyte, and of all that is not in a list of events."""
MAX_EVENT = 16 << 10
"""Bytes of an event that is stored as it is."""
MAX_NODE, MAX_NAME, MAX_DIGITS, MAX_TIME = 64, 100, 15, 1e11
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
        self._found: list[str] = []

    def feed(self, piece: bytes, *, is_last: bool = False) -> list[str]:
        """Take the next bytes, and return the events that are complete, as JSON of an envelope with
        all its keys. Raises ``NotJsonError``.
        """
        try:
            if not self.is_unusable:
                self._text += self._decode(piece, is_last)
                self._parse(is_last=is_last)
        except RecursionError:
            self._skip()
        except ValueError as error:
            raise NotJsonError(str(error)) from None
        found, self._found = self._found, []
        return found

    def _skip(self) -> None:
        self.is_unusable, self._text = True, ""
        self.counts[TOO_LONG] += 1

    def _parse(self, *, is_last: bool) -> None:
        if not self._head and (found := _LIST.match(self._text[:MAX_HEAD])):
            self._head, self._text = found[0], self._text[found.end() :]
            self._is_in_list = True
        if self._is_in_list and (len(self._text) >= self._enough or is_last):
            self._parse_list(is_last=is_last)
        if len(self._text) > MAX_VALUE:
            self._skip()
        elif is_last and not self._is_in_list:
            message = _json.decode(self._head + self._text)
            if not self._head:
                self._item(message, 1)
        elif is_last:
            raise NotJsonError("it is cut off")

    def _parse_list(self, *, is_last: bool) -> None:
        """Take the complete events, up to the end of the list."""
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
            self._item(value, 1)
            self._comma = ","
            at = _blanks(text, end).end()
        self._text = text[at:]
        # Parsed again when there is twice as much, a long event costs no more than its length.
        self._enough = 2 * len(self._text)

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
            self._found.append(content.decode())


def _envelope(item: Any) -> dict[str, Any] | None:
    """Return the envelope of an event with all its keys, or ``None`` if one cannot be used."""
    if not isinstance(item, dict):
        return None
    node, name, version, data = map(item.get, ("node", "event", "version", "data"))
    seq, time = _number(item.get("seq")), _number(item.get("time"))
    if (
        not _is_name(node, MAX_NODE)
        or not _is_name(name, MAX_NAME)
        or name in (BULK, STALE)
        or seq is None
        or not 0 <= seq < 10**MAX_DIGITS
        or seq != int(seq)
        or time is None
        or not 0 < time < MAX_TIME
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


def _is_name(value: object, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()


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
    texts = {name: one[:MAX_TEXT] for name, one in data.items() if isinstance(one, str)}
    kept = texts | {n: one for n, one in data.items() if isinstance(one, int | float | None)}
    return kept if len(kept) < MAX_NAME else {}
