"""Pitfalls: conditions that are valid, and match nothing or other requests than they seem to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from unicodedata import is_normalized

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.matching.clauses import Clause
from pexpolicy.matching.conditions import All, AnyOf, Condition, NoneOf
from pexpolicy.matching.subjects import ALIAS_PARTS
from pexpolicy.models.request import parameters_of, word
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
_TEXT_OPERATORS = ("prefix", "suffix", "contains", "glob", "regex")


def pitfalls(condition: Condition) -> Iterator[str]:
    """Yield what is doubtful about a condition, each with what to write instead."""
    if isinstance(condition, All | AnyOf | NoneOf):
        for part in condition.parts:
            yield from pitfalls(part)
    elif isinstance(condition, Clause):
        yield from _of_clause(condition)


def _of_clause(clause: Clause) -> Iterator[str]:
    key = clause.subject.key
    operator = "not_" * clause.negated + clause.operator
    for operand in clause.operands:
        shown = f"{key}.{operator} = {brief(str(operand))}"
        if clause.operator == "equals" and isinstance(operand, str):
            yield from _of_text(clause, shown, str(operand))
        if clause.operator not in _TEXT_OPERATORS or not isinstance(operand, str):
            continue
        yield from _of_pattern(clause, shown, operand)
        if clause.subject.kind == "alias" and (
            not is_normalized("NFC", operand)
            or (clause.operator == "regex" and _SCHEME.match(operand))
        ):
            form = "has no scheme and is in NFC"
            yield f"{shown} matches no alias, whose normal form {form}; write {key}.raw.{operator}"


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
    negated = "not_" * clause.negated
    if _is_address(key) and re.search(r"/|-|\*|[g-zG-Z]", operand):
        yield f"{shown} is not an address: write one, or a network in {key}.{negated}in_subnet"
    elif part in ("user", "host") and (operand != operand.strip() or "@" in operand):
        meant = f"{name} = {operand!r}" if part == "user" else repr(operand.strip().lstrip("@"))
        yield f"{shown} has an @ or a blank at its end, and no {part} has one: write {meant}"
    elif kind := _kind_of_pattern(clause, operand):
        pattern = operand[1:-1] if operand[0] == operand[-1] == "/" else operand
        yield (
            f"{shown} compares the whole text, without patterns: write "
            f"{key} = {{ {negated}{kind} = {pattern!r} }}"
        )
    known = _words(key)
    if known and operand.lower() not in known:
        guess = did_you_mean(operand, known)
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
    parameters = (parameters_of(endpoint.request).get(name) for endpoint in ENDPOINTS.values())
    found = [p.values for p in parameters if p is not None and p.read is word]
    return tuple(dict.fromkeys(value for values in found for value in values))
