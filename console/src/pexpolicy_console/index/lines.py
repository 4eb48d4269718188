"""One audit line as the index sees it: its columns, and the words by which it is found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeVar
from unicodedata import combining, normalize

import msgspec

from pexpolicy import Alias
from pexpolicy.cli.for_console import LINE_START
from pexpolicy.models.outcome import ABSTAINED, DECIDED, NOT_ANSWERED

MAX_WORD = 120
"""Characters of a word that are kept."""
MAX_NAME_PARTS = 5
"""Parts of a display name that have a word of their own."""
_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PUNCTUATION = ",;()[]<>'\""
_ESCAPES = dict.fromkeys((*range(33), 127, *range(128, 160)), "\xa0")
_ESCAPES |= {ord('"'): "\u201d", ord("'"): "\u2019"}
_ESCAPED = re.compile(f"[{re.escape(''.join(map(chr, _ESCAPES)))}]").search
_BARE = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ß": "ss", "ł": "l", "đ": "d", "ð": "d"})
_SPELLED = _BARE | str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
RULE = "rule "
"""What the reason of a decision by the plugin rules begins with."""
ACCEPTED, REFUSED, FAILED = RESULTS = ("accepted", "refused", "failed")
"""Of a request, and of a call: the policy rejected it, or the ``on_error`` of a plugin did."""
DECISION, START = "decision", "start"
"""The word, as of an event, of the first line of a process."""
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


class AuditLine(msgspec.Struct, gc=False):
    """The fields of an audit line that the index uses."""

    timestamp: Time
    event: str
    decision_id: str = ""
    endpoint: str = ""
    peer: str | None = None
    request: dict[str, Any] = {}
    """The parameters; each may hold any JSON value."""
    steps: list[_Step] = []
    decided_by: str = ""
    reason: str | None = None
    action: str = ""
    sent: msgspec.Raw = msgspec.Raw()
    differs: Any = None
    ms: Milliseconds = 0.0
    policy_hash: str = ""
    environment: str = ""
    instance: str = ""
    seq: int = 0


class Facts(NamedTuple):
    """What is counted of a line, and of a call; empty where it is not known."""

    room: str = ""
    location: str = ""
    protocol: str = ""
    tenant: str = ""
    reason: str = ""
    plugin: str = ""
    node: str = ""
    instance: str = ""
    policy: str = ""


Event = dict[str, Any]
"""The JSON of a line."""
TenantOf = Callable[[str, str | None], str | None]
"""Returns the tenant of a called alias and a service tag."""
_decode = msgspec.json.Decoder(AuditLine).decode
_decode_all = msgspec.json.Decoder(Event).decode


def parse(content: bytes) -> AuditLine | None:
    """Return a line; ``None`` for damage, and for the blanks over a torn line."""
    return _after_damage(_decode, content)


def decode(content: bytes) -> Event | None:
    """Return the JSON of a line; ``None`` for damage."""
    return _after_damage(_decode_all, content)


def _after_damage(decoder: Callable[[bytes], Line], content: bytes) -> Line | None:
    try:
        return decoder(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Another line may follow a torn one.
        start = content.rfind(LINE_START)
        return _after_damage(decoder, content[start:]) if start > 0 else None


def folded(text: str) -> tuple[str, ...]:
    """Return a text in lower case without accents, and with those that people write out."""
    text = text.lower()
    if text.isascii():
        return (text,)
    spelled = text.translate(_SPELLED)
    return (_bare(text.translate(_BARE)), _bare(spelled)) if spelled != text else (_bare(text),)


def _bare(text: str) -> str:
    return "".join(one for one in normalize("NFKD", text) if not combining(one))


def word(kind: str, text: str) -> str:
    """Return the word of a kind for a text; the same one for any case."""
    text = text[:MAX_WORD]
    if _ESCAPED(text):
        text = text.translate(_ESCAPES)
    return f"{kind}:{text}".lower()


def result_of(line: AuditLine) -> int:
    """Return what became of a request: its place in ``RESULTS``."""
    if line.action != "reject":
        return 0
    outcomes = [step.outcome for step in line.steps if step.plugin == line.decided_by]
    return 2 if outcomes and outcomes[-1] in NOT_ANSWERED else 1


def facts_of(line: AuditLine, tenant_of: TenantOf | None = None) -> Facts:
    """Return what is counted of a line."""
    request = line.request
    room, tag = text_of(request, "service_name"), text_of(request, "service_tag")
    if line.endpoint == "service_configuration":
        # Without a result, or with that of no service, there is no object.
        sent = decode(bytes(line.sent)) or {}
        room, tag = text_of(sent, "name"), text_of(sent, "service_tag")
    return Facts(
        room[:MAX_WORD],
        text_of(request, "location")[:MAX_WORD],
        text_of(request, "protocol")[:MAX_WORD],
        (tenant_of and tenant_of(called_of(line), tag or None)) or "",
        common_reason(line.reason or "")[:200],
        line.decided_by,
        text_of(request, "node_ip") or line.peer or "",
        line.instance,
        line.policy_hash,
    )


def words_of(line: AuditLine, facts: Facts, result: int) -> list[str]:
    """Return the words of a line, some of them more than once."""
    request, became = line.request, RESULTS[result] if line.event == DECISION else ""
    room, location, protocol, tenant, reason, plugin, node, instance, policy = facts
    where = location, protocol, tenant, node, instance, policy, line.environment
    decided = line.event, line.endpoint, line.action, plugin, reason, rule_of(line.reason), became
    words = [*_words("gxynihz", *where), *_words("vetdwur", *decided), *_words("m", room)]
    if line.seq == 1:
        words.append(f"v:{START}")
    aliases = ("local_alias", "alias", "remote_alias", "registration_alias")
    for kind, name in zip("llcc", aliases, strict=True):
        if text := text_of(request, name):
            words.append(word(kind, _alias(text)))
    if text := text_of(request, "remote_display_name"):
        words += _name_words(text)
    if text := text_of(request, "remote_address"):
        words.append(word("c", text))
    for step in line.steps:
        if step.outcome in ORDINARY:
            words += _words("p", step.plugin)
        else:
            outcome = f"{step.plugin}/{step.outcome}"
            words += _words("poq", step.plugin, step.outcome, outcome)
    return words


# Names of plugins, rooms and the like come again, and the alias of a caller in each line of a call.
@lru_cache(maxsize=16_384)
def _words(kinds: str, *texts: str) -> tuple[str, ...]:
    """Return the words of texts of different kinds."""
    return tuple(word(kind, text) for kind, text in zip(kinds, texts, strict=True) if text)


_alias = lru_cache(maxsize=4096)(Alias)


@lru_cache(maxsize=4096)
def _name_words(name: str) -> tuple[str, ...]:
    """Return the words of a display name: the whole, and each of its parts."""
    parts = (part.strip(_PUNCTUATION) for part in name.split()[:MAX_NAME_PARTS])
    return word("c", name), *(word("c", part) for part in parts if part)


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


def call_keys(line: AuditLine) -> list[str]:
    """Return what the requests of one call have in common: who calls whom, and identifiers."""
    request = line.request
    found = (text_of(request, name) for name in ("call_uuid", "request_id"))
    keys = [text[:MAX_WORD] for text in found if text]
    called, caller = called_of(line), text_of(request, "remote_alias", "remote_display_name")
    if called and caller:
        address = text_of(request, "remote_address")
        keys.append(f"{_alias(called)}\n{_alias(caller)}\n{address}"[: 3 * MAX_WORD])
    return keys


def called_of(line: AuditLine) -> str:
    """Return the called alias; empty without one."""
    return text_of(line.request, "local_alias", "alias")


def text_of(values: Mapping[str, Any], *names: str) -> str:
    """Return the first text that has one of these names, the last one of a list; empty without."""
    for name in names:
        value = values.get(name)
        if type(value) is list and value:
            value = value[-1]
        if value and type(value) is str:
            return value
    return ""


def id_tail(decision_id: str) -> int | None:
    """Return the last four bytes of a decision identifier."""
    try:
        return int(decision_id[-8:], 16) if decision_id else None
    except ValueError:
        return None
