"""Pitfalls: conditions that are valid, and match nothing or other requests than they seem to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from unicodedata import is_normalized, normalize
from zoneinfo import ZoneInfo

from pexpolicy.config.time_zones import zone_pitfall
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.matching.clauses import Clause
from pexpolicy.matching.conditions import All, AnyOf, Condition, NoneOf, TimeCondition
from pexpolicy.matching.subjects import ALIAS_PARTS
from pexpolicy.matching.time_window import WEEKDAYS, TimeOperators, TimeWindow
from pexpolicy.models.request import word
from pexpolicy.subnets import SubnetError, read_subnet
from pexpolicy.text import brief, did_you_mean

_SCHEME = re.compile(r"\^?(?:\((?:\?:)?)?(?:sips?\??|h323|tel)\b[^:@]{0,20}:", re.IGNORECASE)
"""A pattern that begins with the scheme of an alias, or with several in parentheses."""
_REGEX = re.compile(r"/.+/|\^.*|.*\.\*.*")
"""What is written as a regular expression elsewhere."""
_GLOB = re.compile(r"\*[@.].*|.*[a-z@.]\*.*|\+\d+\*", re.IGNORECASE)
"""What is written as a glob elsewhere. A dialed code such as ``*97#`` is none."""
_TEXT_GLOB = re.compile(r"\*.+|.+\*")
"""The same, of a text that is no alias."""
_TEXT_REGEX = re.compile(r"/.+/|.*\.\*.*")
_DOMAIN = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}", re.IGNORECASE)
_NO_GLOB = re.compile(r"\A(?:\.\*|\^)|\\[.dws]|\$\Z")
"""What only a regular expression has; ``my.*`` may be a glob."""
MAX_SKIPPED_MINUTES = 120
"""The longest time that clocks skip."""
YEAR = 366
_TEXT_OPERATORS = ("prefix", "suffix", "contains", "glob", "regex")


def pitfalls(condition: Condition) -> Iterator[str]:
    """Yield what is doubtful about a condition, each with what to write instead."""
    if isinstance(condition, All | AnyOf | NoneOf):
        for part in condition.parts:
            yield from pitfalls(part)
    elif isinstance(condition, TimeCondition):
        yield from _of_time(condition.window.settings)
    elif isinstance(condition, Clause):
        yield from _of_clause(condition)


def _of_time(settings: TimeOperators) -> Iterator[str]:
    if text := zone_pitfall(settings.zone):
        yield f"time.zone = {text}"
    if text := _skipped_hours(settings):
        yield text
    between, days = settings.between, {*(settings.weekdays or ())}
    if between is None or len(days) != 1 or between[0] < between[1] or between[1] == time():
        return
    (day,) = days
    following = WEEKDAYS[(WEEKDAYS.index(day) + 1) % len(WEEKDAYS)]
    yield (
        f"time: {between[0]:%H:%M} to {between[1]:%H:%M} on {day} is the early morning and the "
        f"evening of {day}; for the night that follows, write two conditions: {day} until 00:00, "
        f"and {following} from 00:00"
    )


def _skipped_hours(settings: TimeOperators) -> str:
    """Return on which day clocks skip all hours of a window, within a year; or nothing."""
    if settings.between is None:
        return ""
    (start, end), zone = settings.between, ZoneInfo(settings.zone)
    length = (end.hour - start.hour) * 60 + end.minute - start.minute
    if not 0 < length <= MAX_SKIPPED_MINUTES:
        return ""
    first = max(settings.since or date.min, datetime.now(zone).date())
    with suppress(OverflowError):  # at the end of the calendar, as of 9999-12-31 for never
        for day in settings.dates or (first + timedelta(days=n) for n in range(YEAR)):
            local = datetime.combine(day, start, zone)
            last = local + timedelta(minutes=length - 1)
            if _is_skipped(local) and _is_skipped(last) and TimeWindow(settings).holds_on(day):
                return (
                    f"time: there is no {start:%H:%M} to {end:%H:%M} on {day} in {zone.key}, when "
                    "clocks go forward: nothing matches on that day; write a longer time if it "
                    "should"
                )
    return ""


def _is_skipped(local: datetime) -> bool:
    """Return whether a local time does not exist, as clocks go forward."""
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) != local.replace(
        tzinfo=None
    )


def _of_clause(clause: Clause) -> Iterator[str]:
    key = clause.subject.key
    operator = "not_" * clause.negated + clause.operator
    for operand in clause.operands:
        shown = f"{key}.{operator} = {brief(str(operand))}"
        is_text = clause.operator == "equals" and isinstance(operand, str)
        if is_text and _is_address(key) and re.search(r"/|-|\*|[g-zG-Z]", operand):
            wanted = "not_" * clause.negated + "in_subnet"
            yield (
                f"{shown} compares the text, which no address is equal to: "
                f"{_network_advice(f'{key} = {{ {wanted} = ', operand)}"
            )
        if is_text:
            yield from _of_text(clause, shown, str(operand))
        if clause.operator in _TEXT_OPERATORS and isinstance(operand, str):
            yield from _of_pattern(clause, shown, operand)
        if clause.subject.kind != "alias" or clause.operator not in _TEXT_OPERATORS:
            continue
        if clause.operator == "regex" and _SCHEME.match(operand):
            yield (
                f"{shown} matches no alias, whose normal form has no scheme: leave the scheme out, "
                f"or write {key}.raw.{operator}"
            )
        if not is_normalized("NFC", operand):
            yield (
                f"{shown} matches no alias: it has an accent as a character of its own (NFD), and "
                f"the normal form of an alias has not; write {normalize('NFC', operand)!r}"
            )


def _network_advice(before: str, operand: str) -> str:
    """Return what to write in place of a text that is no address."""
    if "/" in operand:
        return f"write {before}{operand!r} }}"
    try:
        read_subnet(operand)
    except SubnetError as error:
        return str(error).rpartition("; ")[2]
    return "write an address"


def _of_pattern(clause: Clause, shown: str, operand: str) -> Iterator[str]:
    """Yield what is doubtful about a pattern, or a part of a text."""
    key = clause.subject.key
    if clause.operator == "glob" and _NO_GLOB.search(operand):
        wanted = "not_" * clause.negated + "regex"
        yield f"{shown} is a glob, and looks like a regular expression: write {key}.{wanted}"
    name, _, part = key.partition(".")
    is_alias = clause.subject.kind == "alias" or (name.endswith("alias") and part == "host")
    domain = operand.removeprefix("*") if clause.operator == "glob" else operand
    is_end = clause.operator == "suffix" or domain != operand
    if is_alias and is_end and _DOMAIN.fullmatch(domain):
        yield (
            f"{shown} also matches not{domain}: write {name}.host = {domain!r}, or "
            f"'.{domain}' for its subdomains"
        )
    rest = {"prefix": operand.removesuffix("*"), "suffix": operand.removeprefix("*")}
    # A dialed code such as *97* has a star of its own.
    if (other := rest.get(clause.operator, operand)) not in (operand, "") and "*" not in other:
        yield f"{shown} has a star, which means itself here: write {other!r}"


def _of_text(clause: Clause, shown: str, operand: str) -> Iterator[str]:
    """Yield what is doubtful about a text that a value must be equal to."""
    key, (name, _, part) = clause.subject.key, clause.subject.key.partition(".")
    if part == "host" and operand.startswith("@"):
        yield f"{shown} has an @, and no host has one: write {operand[1:]!r}"
    elif part in ("user", "host") and operand != operand.strip():
        yield f"{shown} has a blank at its end, and no {part} has one: remove it"
    elif part == "user" and "@" in operand:
        yield f"{shown} has an @, and no user has one: write {name} = {operand!r}"
    elif kind := _kind_of_pattern(clause, operand):
        wanted = "not_" * clause.negated + kind
        pattern = operand[1:-1] if operand[0] == operand[-1] == "/" else operand
        yield (
            f"{shown} compares the whole text, without patterns: write "
            f"{key} = {{ {wanted} = {pattern!r} }}"
        )
    known = _words(key)
    if known and operand.lower() not in known:
        same = next((one for one in known if _letters(one) == _letters(operand)), "")
        guess = f"; did you mean {same!r}?" if same else did_you_mean(operand, known)
        yield f"{shown} is no value that Infinity is known to send: {', '.join(known)}{guess}"


def _kind_of_pattern(clause: Clause, operand: str) -> str:
    """Return ``regex`` or ``glob`` for a text that is written as one, or nothing."""
    key, (name, _, part) = clause.subject.key, clause.subject.key.partition(".")
    if clause.subject.kind == "alias" or (name.endswith("alias") and part in ALIAS_PARTS):
        regex, glob = _REGEX, _GLOB
    elif clause.subject.secret or _is_address(key) or _words(key):
        return ""
    else:
        regex, glob = _TEXT_REGEX, _TEXT_GLOB
    return "regex" if regex.fullmatch(operand) else "glob" if glob.fullmatch(operand) else ""


def _is_address(key: str) -> bool:
    return key == "peer" or key.endswith(("_address", "_ip"))


@cache
def _words(name: str) -> tuple[str, ...]:
    """Return the known words of a parameter; none if it may be any text."""
    parameters = (endpoint.request.parameters().get(name) for endpoint in ENDPOINTS.values())
    found = [p.values for p in parameters if p is not None and p.read is word]
    return tuple(dict.fromkeys(value for values in found for value in values))


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))
