"""One audit line as the index sees it: its columns, and the words by which it is found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, TypeVar

import msgspec

from pexpolicy import Alias
from pexpolicy.cli.for_console import LINE_START
from pexpolicy.models.outcome import ABSTAINED, DECIDED

MAX_WORD = 120
"""Characters of a word that are kept."""
MAX_NAME_PARTS = 5
"""Parts of a display name that have a word of their own."""
_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PUNCTUATION = ",;()[]<>'\""
_ESCAPES = dict.fromkeys((*range(33), 127, *range(128, 160)), "\xa0")
_ESCAPES |= {ord('"'): "\u201d", ord("'"): "\u2019"}
_ESCAPED = re.compile(f"[{re.escape(''.join(map(chr, _ESCAPES)))}]").search
RULE = "rule "
"""What the reason of a decision by the plugin rules begins with."""
ORDINARY = (DECIDED, ABSTAINED)
"""Outcomes that need no attention, and are no words."""
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Line = TypeVar("Line")
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
"""A duration; a larger one is damage, and no number of the index can hold it."""


class _Step(msgspec.Struct, gc=False):
    plugin: str = ""
    outcome: str = ""
    ms: Milliseconds = 0.0


class _Request(msgspec.Struct, gc=False):
    local_alias: Any = None
    remote_alias: Any = None
    alias: Any = None
    registration_alias: Any = None
    remote_display_name: Any = None
    remote_address: Any = None
    node_ip: Any = None
    call_uuid: Any = None
    request_id: Any = None
    service_name: Any = None


class _Sent(msgspec.Struct, gc=False):
    name: Any = None


class AuditLine(msgspec.Struct, gc=False):
    """The fields of an audit line that the index uses."""

    timestamp: Time
    event: str
    decision_id: str = ""
    endpoint: str = ""
    peer: str | None = None
    request: _Request = msgspec.field(default_factory=_Request)
    steps: list[_Step] = []
    decided_by: str = ""
    reason: str | None = None
    action: str = ""
    sent: msgspec.Raw = msgspec.Raw()
    differs: Any = None
    ms: Milliseconds = 0.0
    instance: str = ""


_decode = msgspec.json.Decoder(AuditLine).decode
_decode_all = msgspec.json.Decoder(dict[str, Any]).decode
_decode_sent = msgspec.json.Decoder(_Sent).decode


def parse(content: bytes) -> AuditLine | None:
    """Return a line; ``None`` for damage, and for the blanks over a torn line."""
    return _after_damage(_decode, content)


def decode(content: bytes) -> dict[str, Any] | None:
    """Return the JSON of a line; ``None`` for damage."""
    return _after_damage(_decode_all, content)


def _after_damage(decoder: Callable[[bytes], Line], content: bytes) -> Line | None:
    try:
        return decoder(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Another line may follow a torn one.
        start = content.rfind(LINE_START)
        return _after_damage(decoder, content[start:]) if start > 0 else None


def word(kind: str, text: str) -> str:
    """Return the word of a kind for a text; the same one for any case."""
    text = text[:MAX_WORD]
    if _ESCAPED(text):
        text = text.translate(_ESCAPES)
    return f"{kind}:{text}".lower()


# Names of plugins, rooms and the like come again, and the alias of a caller in each line of a call.
_known_word = lru_cache(maxsize=4096)(word)
_alias = lru_cache(maxsize=4096)(Alias)


def words_of(line: AuditLine) -> list[str]:
    """Return the words of a line, some of them more than once."""
    request = line.request
    words = [*_decision_words(line.event, line.endpoint, line.action, line.decided_by, line.reason)]
    if node := node_of(line):
        words.append(_known_word("n", node))
    if line.instance:
        words.append(_known_word("i", line.instance))
    if room := _room(line):
        words.append(_known_word("m", room))
    for kind, value in (
        ("l", request.local_alias),
        ("l", request.alias),
        ("c", request.remote_alias),
        ("c", request.registration_alias),
    ):
        if value and (text := _text(value)) is not None:
            words.append(word(kind, _alias(text)))
    if (name := _text(request.remote_display_name)) is not None:
        words += _name_words(name)
    if (address := _text(request.remote_address)) is not None:
        words.append(word("c", address))
    for step in line.steps:
        words += _step_words(step.plugin, step.outcome)
    words += [f"k:{key}" for key in call_keys(line)]
    return words


@lru_cache(maxsize=4096)
def _decision_words(
    event: str, endpoint: str, action: str, decided_by: str, reason: str | None
) -> tuple[str, ...]:
    """Return the words of what was asked and decided."""
    kinds = (("v", event), ("e", endpoint), ("t", action), ("d", decided_by))
    found = [word(kind, text) for kind, text in kinds if text]
    if reason:
        found.append(word("w", common_reason(reason)))
    if rule_of(reason):
        found.append(word("u", rule_of(reason)))
    return tuple(found)


def rule_of(reason: str | None) -> str:
    """Return the rule that a reason names; empty without one."""
    if not reason or not reason.startswith(RULE):
        return ""
    return reason[len(RULE) :].partition(": ")[0]


@lru_cache(maxsize=4096)
def common_reason(reason: str) -> str:
    """Return a reason with ``*`` from its first identifier on: other lines have another one.

    Each would have a word of its own, and a line of its own among the counts.
    """
    found = _ID.search(reason)
    return reason if found is None else f"{reason[: found.start()]}*"


@lru_cache(maxsize=4096)
def _name_words(name: str) -> tuple[str, ...]:
    """Return the words of a display name: the whole, and each of its parts."""
    parts = (part.strip(_PUNCTUATION) for part in name.split()[:MAX_NAME_PARTS])
    return word("c", name), *(word("c", part) for part in parts if part)


@lru_cache(maxsize=4096)
def _step_words(plugin: str, outcome: str) -> tuple[str, ...]:
    """Return the words of a step."""
    asked = word("p", plugin)
    if outcome in ORDINARY:
        return (asked,)
    return asked, word("o", outcome), word("q", f"{plugin}/{outcome}")


def call_keys(line: AuditLine) -> list[str]:
    """Return what the requests of one call have in common: who calls whom, and identifiers."""
    request = line.request
    keys = [
        _digest(text)
        for value in (request.call_uuid, request.request_id)
        if value and (text := _text(value)) is not None
    ]
    called = _text(request.local_alias) or _text(request.alias)
    if called is not None:
        caller = _text(request.remote_alias) or _text(request.remote_display_name)
        if caller is not None:
            address = _text(request.remote_address) or ""
            keys.append(_digest(f"{_alias(called)}\n{_alias(caller)}\n{address}"))
    return keys


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()


def node_of(line: AuditLine) -> str:
    """Return the node of a call: the one that it names, or the address it came from."""
    return _text(line.request.node_ip) or line.peer or ""


def _room(line: AuditLine) -> str | None:
    if line.endpoint == "service_configuration":
        try:
            return _text(_decode_sent(line.sent).name)
        except msgspec.MsgspecError:
            return None  # no result, or not that of a service
    return _text(line.request.service_name)


def _text(value: Any) -> str | None:
    if type(value) is list and value:
        value = value[-1]
    return value if value and type(value) is str else None


def id_tail(decision_id: str) -> int | None:
    """Return the last four bytes of a decision identifier."""
    try:
        return int(decision_id[-8:], 16) if decision_id else None
    except ValueError:
        return None
