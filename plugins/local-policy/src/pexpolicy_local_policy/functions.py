"""Functions of Infinity for scripts: time, subnets, patterns, random values and the debug log."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from pexpolicy_local_policy.text_filters import ScriptValueError
from pexpolicy_local_policy.unknown_value import UnknownValue

MAX_DEBUG_LINES = 100
MAX_DEBUG_LENGTH = 2_000
"""Characters of a debug line that are kept."""
MAX_PIN_LENGTH = 1_000


class Moment:
    """The result of ``pex_now``: a time with the documented attributes and no others."""

    __slots__ = ("_text", "day", "hour", "microsecond", "minute", "month", "second", "year")

    def __init__(self, at: datetime) -> None:
        for name in self.__slots__[1:]:
            setattr(self, name, getattr(at, name))
        self._text = str(at)

    def __str__(self) -> str:
        return self._text


class Functions:
    """The functions of one run; ``debug_lines`` is what it logged, ``now`` seconds since 1970."""

    def __init__(self, now: float | None = None) -> None:
        self.debug_lines: list[str] = []
        self._now = time.time() if now is None else now

    def by_name(self) -> Mapping[str, Callable[..., Any]]:
        """Return the seven functions."""
        return {
            "pex_debug_log": self._debug_log,
            "pex_find_first_match": _find_first_match,
            "pex_in_subnet": _in_subnet,
            "pex_now": self._time_in,
            "pex_random_pin": _random_pin,
            "pex_regex_search": _regex_search,
            "pex_uuid4": _uuid4,
        }

    def _debug_log(self, *values: object) -> str:
        if len(self.debug_lines) < MAX_DEBUG_LINES:
            line = ",".join(map(_debug_text, values))[:MAX_DEBUG_LENGTH]
            # A lone surrogate can be written nowhere.
            self.debug_lines.append(line.encode(errors="replace").decode())
        return ""

    def _time_in(self, zone: str = "UTC") -> Moment:
        try:
            found = ZoneInfo(str(zone))
        except (LookupError, ValueError, OSError):
            raise ScriptValueError(f"pex_now: there is no time zone {zone!r}") from None
        return Moment(datetime.fromtimestamp(self._now, found))


def _debug_text(value: object) -> str:
    return "(unknown)" if isinstance(value, UnknownValue) else str(value)


def _find_first_match(values: Iterable[Any], pattern: str) -> Any:
    compiled = _compiled("pex_find_first_match", pattern)
    return next((value for value in values if compiled.search(str(value))), None)


def _in_subnet(address: object, networks: Iterable[Any]) -> bool:
    try:
        sought = ip_address(str(address))
    except ValueError:
        return False
    if isinstance(networks, str):
        networks = [networks]
    try:
        # Not strict: a network in Pexip's documentation has host bits set.
        found = [ip_network(str(network), strict=False) for network in networks]
    except ValueError as error:
        raise ScriptValueError(f"pex_in_subnet: {error}") from None
    return any(sought in network for network in found)


def _random_pin(*arguments: Any) -> str:
    """Return random digits; the last argument is their number, as in ``""|pex_random_pin(6)``."""
    length = arguments[-1] if arguments else None
    if isinstance(length, bool) or not isinstance(length, int) or not 0 < length <= MAX_PIN_LENGTH:
        raise ScriptValueError("pex_random_pin: needs the number of digits")
    return "".join(secrets.choice("0123456789") for _ in range(length))


def _regex_search(pattern: str, text: object) -> tuple[str | None, ...] | bool:
    found = _compiled("pex_regex_search", pattern).search(str(text))
    if found is None:
        return False
    return found.groups() or (found[0],)


def _uuid4(*_: object) -> str:
    return str(uuid4())


def _compiled(name: str, pattern: object) -> re.Pattern[str]:
    try:
        return re.compile(str(pattern))
    except re.error as error:
        raise ScriptValueError(f"{name}: {pattern!r} cannot be used: {error}") from None


FUNCTION_NAMES = tuple(Functions(0).by_name())
