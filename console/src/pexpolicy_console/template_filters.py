"""Filters of the templates: times, durations, sizes and numbers for people."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from jinja2.filters import do_filesizeformat
from markupsafe import Markup, escape

from pexpolicy.text import printable, printable_lines

_BREAK_BEFORE = re.compile(r"(?<=.)(?=[@.])")
_BREAK_AFTER = re.compile(r"(?<=[/_])(?=.)")
MAX_ADDRESS, SHOWN_OF_LOCAL = 34, 9
"""Characters of an address in a list, and at least those of its part before the @."""
_WBR = Markup("<wbr>")


def time_of(value: float | str | datetime | None) -> Markup | str:
    """Return a ``time`` element of seconds since 1970, or of the timestamp of an audit line.

    It holds the time in UTC; the script shows it in the zone of the browser, with UTC on hover.
    """
    if value is None:
        return "never"
    try:
        moment = _moment(value)
    except (ValueError, OverflowError, OSError):
        return str(value)
    shown = f"{moment:%Y-%m-%d %H:%M:%S}Z"
    machine = moment.isoformat(timespec="milliseconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(machine, shown, shown)


def _moment(value: float | str | datetime) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    elif not isinstance(value, datetime):
        value = datetime.fromtimestamp(value, UTC)
    return value.astimezone(UTC)


_MOMENTS = {"clock": "{:%H:%M}", "day": "{0.day} {0:%b}", "full": "{0.day} {0:%b}, {0:%H:%M}"}


def short_moment(value: float, kind: str) -> str:
    """Return a time as charts show it; the script shows it in the zone of the browser."""
    return _MOMENTS[kind].format(_moment(value))


def age(seconds: float | None) -> str:
    """Return a duration, such as ``3 s``, ``12 min`` or ``4 d``."""
    if seconds is None:
        return "never"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def milliseconds(value: float | None) -> str:
    """Return milliseconds with three significant digits, below one with two."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.{2 + (value >= 1)}g}"  # noqa: PLR2004 - digits


def size(value: float | None) -> str:
    """Return a number of bytes, such as ``1.5 GiB``."""
    return "unknown" if value is None else do_filesizeformat(value, binary=True)


def number(value: float | None) -> str:
    """Return a whole number with separators."""
    return "-" if value is None else f"{value:,.0f}"


def short(value: Any) -> str:
    """Return a value of a field on one line: text as it is, other values as JSON."""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def breakable(value: Any) -> Markup:
    """Return a path, an alias or a name with the places where a narrow column may break it."""
    text = _BREAK_AFTER.sub("\0", _BREAK_BEFORE.sub("\0", printable(value)))
    return _WBR.join(escape(part) for part in text.split("\0"))


def shortened(value: str) -> str:
    """Return an address without the scheme of SIP, its part before the @ cut to fit a row."""
    value = value.removeprefix("sip:")
    local, at, host = value.rpartition("@")
    room = max(MAX_ADDRESS - len(host), SHOWN_OF_LOCAL)
    return f"{local[: room - 1]}…@{host}" if at and len(local) > room else value


_CLAUSE = re.compile(r"""'[^']*'|"[^"]*"|\b([a-z_.]+)\.([a-z_]+) = """)
"""A value, or the subject and the operator of a condition."""


def in_words(condition: str, subjects: Mapping[str, str], operators: Mapping[str, str]) -> str:
    """Return the condition of a rule with words for its subjects and operators."""

    def clause(found: re.Match[str]) -> str:
        subject, operator = found.groups("")
        words = subjects.get(subject, subject), operators.get(operator)
        return f"{words[0]} {words[1]} " if words[1] else found[0]

    return _CLAUSE.sub(clause, condition).strip()


def shown(value: object) -> object:
    """Return what a template shows of a value: it cannot change how the text next to it is read."""
    return value if isinstance(value, Markup) else printable_lines(value)


def entered(value: str) -> Markup:
    """Return the value of a field of a form, with all its characters: it is sent again."""
    return escape(value)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "age": age,
    "breakable": breakable,
    "entered": entered,
    "in_words": in_words,
    "json": partial(json.dumps, indent=2, ensure_ascii=False),
    "moment": short_moment,
    "ms": milliseconds,
    "number": number,
    "place": "{:.2f}%".format,
    "short": short,
    "shortened": shortened,
    "size": size,
    "time": time_of,
    "utc": lambda value: f"{_moment(value):%Y-%m-%dT%H:%M:%SZ}",
}
