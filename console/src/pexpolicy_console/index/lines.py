"""One audit line as the index sees it: its columns, and the words by which it is found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from pexpolicy.audit.torn_lines import LINE_START
from pexpolicy.models.alias import Alias
from pexpolicy.models.outcome import ABSTAINED, DECIDED

MAX_WORD = 120
"""Characters of a word that are kept."""
SLOWER_MS = (1, 10, 100, 1000)
"""Thresholds with a word of their own, so that slow calls are found without reading the others."""
_ESCAPES = dict.fromkeys((*range(33), 127, *range(128, 160)), "\xa0")
_ESCAPES |= {ord('"'): "\u201d", ord("'"): "\u2019"}
_ESCAPED = re.compile(f"[{re.escape(''.join(map(chr, _ESCAPES)))}]").search
RULE = "rule "
"""What the reason of a decision by the plugin rules begins with."""
ORDINARY = (DECIDED, ABSTAINED)
"""Outcomes that need no attention, and are no words."""


class _Step(msgspec.Struct):
    plugin: str = ""
    outcome: str = ""
    ms: float = 0.0


class _Request(msgspec.Struct):
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


class _Sent(msgspec.Struct):
    name: Any = None


class AuditLine(msgspec.Struct):
    """The fields of an audit line that the index uses."""

    timestamp: datetime
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
    ms: float = 0.0


_decode = msgspec.json.Decoder(AuditLine).decode
_decode_sent = msgspec.json.Decoder(_Sent).decode


def parse(content: bytes) -> AuditLine | None:
    """Return a line; ``None`` for damage, and for the blanks over a torn line."""
    try:
        return _decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Another line may follow a torn one.
        start = content.rfind(LINE_START)
        return parse(content[start:]) if start > 0 else None


def word(kind: str, text: str) -> str:
    """Return the word of a kind for a text; the same one for any case."""
    text = text[:MAX_WORD]
    if _ESCAPED(text):
        text = text.translate(_ESCAPES)
    return f"{kind}:{text}".lower()


# Names of plugins, rooms and the like come again, and the alias of a caller in each line of a call.
_known_word = lru_cache(maxsize=4096)(word)
_alias = lru_cache(maxsize=4096)(Alias)


def words_of(line: AuditLine) -> Iterator[str]:
    """Yield the words of a line."""
    for kind, text in (
        ("v", line.event),
        ("e", line.endpoint),
        ("t", line.action),
        ("d", line.decided_by),
        ("w", line.reason),
        ("n", node_of(line)),
        ("m", _room(line)),
    ):
        if text:
            yield _known_word(kind, text)
    if line.reason and line.reason.startswith(RULE):
        yield _known_word("u", line.reason[len(RULE) :].partition(": ")[0])
    yield from _parties(line.request)
    for step in line.steps:
        yield _known_word("p", step.plugin)
        if step.outcome not in ORDINARY:
            yield _known_word("o", step.outcome)
            yield _known_word("q", f"{step.plugin}/{step.outcome}")
    for limit in SLOWER_MS:
        if line.ms >= limit:
            yield f"s:{limit}"
    for key in call_keys(line):
        yield f"k:{key}"


def _parties(request: _Request) -> Iterator[str]:
    """Yield the words of the called and the calling alias, and of the caller's name."""
    for kind, value in (
        ("l", request.local_alias),
        ("l", request.alias),
        ("c", request.remote_alias),
        ("c", request.registration_alias),
    ):
        if (text := _text(value)) is not None:
            yield from alias_words(kind, text)
    if (name := _text(request.remote_display_name)) is not None:
        yield word("c", name)


def alias_words(kind: str, text: str) -> Iterator[str]:
    """Yield the words of an alias: its normal form, and its user without the host."""
    alias = _alias(text)
    yield word(kind, alias)
    if alias.user != alias:
        yield word(kind, alias.user)


def call_keys(line: AuditLine) -> Iterator[str]:
    """Yield what the requests of one call have in common: who calls whom, and their identifiers."""
    request = line.request
    for value in (request.call_uuid, request.request_id):
        if (text := _text(value)) is not None:
            yield _digest(text)
    called = _text(request.local_alias) or _text(request.alias)
    caller = _text(request.remote_alias) or _text(request.remote_display_name)
    if called is not None and caller is not None:
        yield _digest(f"{_alias(called)}\n{_alias(caller)}\n{_text(request.remote_address) or ''}")


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
    return value if type(value) is str and value else None


def id_tail(decision_id: str) -> int | None:
    """Return the last four bytes of a decision identifier."""
    try:
        return int(decision_id[-8:], 16) if decision_id else None
    except ValueError:
        return None
