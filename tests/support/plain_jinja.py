"""Infinity's filters and functions written a second time, for plain Jinja without a sandbox.

It shares no code with the plugin ``local-policy``, and judges what that prints.
"""

import binascii
import hashlib
import re
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, Undefined

LINK_TARGETS = (
    "https://pexip.me/teams/example.com/123?b=1",
    "https://example.com/a_b-c/d?x=%20y",
)
_STAYS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~"
_ESCAPES = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


class TooShortError(Exception):
    """The script asked for its own end."""


@dataclass(frozen=True, slots=True)
class Printed:
    """What a script printed, or why it failed: ``not applied`` or ``failed``."""

    text: str
    debug: tuple[str, ...]
    failure: str | None


def printed(source: str, variables: Mapping[str, Any], now: float) -> Printed:
    """Render a script with plain Jinja."""
    debug: list[str] = []
    environment = Environment()  # noqa: S701 - scripts print JSON
    functions = _functions(debug, now)
    environment.filters.update(_FILTERS)
    environment.filters["pex_random_pin"] = lambda _, length: "7" * length
    environment.globals.update(functions)
    try:
        return Printed(environment.from_string(source).render(variables), tuple(debug), None)
    except TooShortError:
        return Printed("", tuple(debug), "not applied")
    except Exception:  # noqa: BLE001 - a script raises what it likes
        return Printed("", tuple(debug), "failed")


def percent_encoded(text: str) -> str:
    """Return a text as part of a URL."""
    return "".join(chr(b) if b in _STAYS else f"%{b:02X}" for b in text.encode())


def safe_link(target: str) -> str:
    """Return a link as Defender rewrites it."""
    return (
        f"https://eur01.safelinks.protection.outlook.com/?url={percent_encoded(target)}"
        "&data=05%7C01&reserved=0"
    )


def proofpoint_link(target: str) -> str:
    """Return a link as version 2 of Proofpoint rewrites it."""
    kept = "".join(c if c.isalnum() or c in "./" else f"-{ord(c):02X}" for c in target)
    return f"https://urldefense.proofpoint.com/v2/url?u={kept.replace('/', '_')}&d=DwMF&c=x"


def _linked(made: Callable[[str], str]) -> Callable[[object], str]:
    def decoded(value: object) -> str:
        text = str(value)
        for target in LINK_TARGETS:
            text = target.join(text.split(made(target)))
        return text

    return decoded


def _hash(value: object) -> str:
    number = int(hashlib.sha256(str(value).encode()).hexdigest(), 16)
    digits = deque[str]()
    while number:
        number, digit = divmod(number, 10)
        digits.appendleft("0123456789"[digit])
    return "".join(digits)


def _replaced(value: object, find: str, replace: str) -> str:
    text, parts, end = str(value), list[str](), 0
    for match in re.compile(find).finditer(text):
        parts += [text[end : match.start()], match.expand(replace)]
        end = match.end()
    return "".join(parts) + text[end:]


def _at_least(value: object, length: int) -> str:
    if sum(1 for _ in str(value)) < length:
        raise TooShortError
    return str(value)


def _json(value: Any) -> str:
    if isinstance(value, Undefined):
        raise TypeError
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return f'"{"".join(map(_json_character, value))}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_json(key)}: {_json(of)}" for key, of in value.items()) + "}"
    return "[" + ", ".join(map(_json, value)) + "]"


def _json_character(character: str) -> str:
    code = ord(character)
    if code in _ESCAPES:
        return _ESCAPES[code]
    if 32 <= code < 127:
        return character
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _uuid(value: object) -> str:
    text = str(value)
    if not re.fullmatch(r"[A-Za-z0-9+/]{22}==", text):
        raise ValueError
    raw = binascii.a2b_base64(text).hex()
    order = (6, 4, 2, 0, None, 10, 8, None, 14, 12, None, 16, 18, None, 20, 22, 24, 26, 28, 30)
    return "".join("-" if at is None else raw[at : at + 2] for at in order)


def _updated(value: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    copy = dict.copy(value)
    dict.update(copy, changes)
    return copy


def _url_decoded(value: object) -> str:
    parts = re.split(rb"%([0-9A-Fa-f]{2})", str(value).encode())
    joined = b"".join(bytes([int(part, 16)]) if at % 2 else part for at, part in enumerate(parts))
    return joined.decode(errors="replace")


def _bits(address: str) -> str:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            raw = socket.inet_pton(family, address)
        except OSError:
            continue
        return "".join(f"{byte:08b}" for byte in raw)
    raise ValueError


def _is_within(address: object, networks: Sequence[str]) -> bool:
    try:
        sought = _bits(str(address))
    except ValueError:
        return False
    found = False
    for network in networks:
        start, _, length = network.partition("/")
        bits = _bits(start)
        prefix = bits[: int(length)] if length else bits
        found |= len(bits) == len(sought) and sought.startswith(prefix)
    return found


def _first_match(values: Sequence[object], pattern: str) -> object:
    for value in values:
        if re.search(pattern, str(value)):
            return value
    return None


def _searched(pattern: str, text: object) -> object:
    for match in re.finditer(pattern, str(text)):
        return [match[number] for number in range(1, len(match.groups()) + 1)] or [match[0]]
    return False


def _functions(debug: list[str], now: float) -> dict[str, Callable[..., Any]]:
    def log(*values: object) -> str:
        debug.append(",".join(f"{value!s}" for value in values))
        return ""

    def at(zone: str = "UTC") -> datetime:
        return datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(zone))

    return {
        "pex_debug_log": log,
        "pex_find_first_match": _first_match,
        "pex_in_subnet": _is_within,
        "pex_now": at,
        "pex_random_pin": lambda length: "7" * length,
        "pex_regex_search": _searched,
        "pex_uuid4": lambda: "00000000-0000-4000-8000-000000000000",
    }


_FILTERS: Mapping[str, Callable[..., Any]] = {
    "range": range,
    "pex_base64": lambda v: binascii.b2a_base64(str(v).encode(), newline=False).decode(),
    "pex_clean_phone_number": lambda v: "".join(c for c in str(v) if c in "+0123456789"),
    "pex_hash": _hash,
    "pex_head": lambda v, n: "".join(islice(str(v), n)),
    "pex_md5": lambda v: hashlib.new("md5", str(v).encode(), usedforsecurity=False).hexdigest(),
    "pex_regex_replace": _replaced,
    "pex_require_min_length": _at_least,
    "pex_reverse": lambda v: "".join(reversed(str(v))),
    "pex_safelinks_decode": _linked(safe_link),
    "pex_strlen": lambda v: sum(1 for _ in str(v)),
    "pex_tail": lambda v, n: "".join(deque(str(v), maxlen=n)),
    "pex_to_json": _json,
    "pex_to_uuid": _uuid,
    "pex_update": _updated,
    "pex_url_decode": _url_decoded,
    "pex_url_encode": lambda v: percent_encoded(str(v)),
    "pex_urldefense_decode": _linked(proofpoint_link),
}
