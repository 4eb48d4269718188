"""Conditions of rules as expressions of a script."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from ipaddress import IPv4Network, ip_network

from pexpolicy.matching import All, AnyOf, Clause, Condition, NoneOf, Subject
from pexpolicy.subnets import read_subnet
from pexpolicy.text import brief
from pexpolicy_local_policy.export_patterns import (
    NotExportedError,
    glob_pattern,
    python_pattern,
    text_literal,
)
from pexpolicy_local_policy.variables import CALL_INFO, PARTICIPANT, Kind

_MAPPED = ip_network("::ffff:0:0/96")
_MAPPED_BITS = 96
ANY_ADDRESS = '["0.0.0.0/0", "::/0"]'


class Expressions:
    """Writes conditions for one kind of script; ``preamble`` is what they need before them."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.preamble: dict[str, str] = {}
        """The statements that set a variable, by its name."""

    def of(self, condition: Condition) -> str:
        """Return a condition as an expression; raises ``NotExportedError``."""
        match condition:
            case All(parts=parts):
                return self._joined(parts, "and") if parts else "true"
            case AnyOf(parts=parts):
                return self._joined(parts, "or")
            case NoneOf(parts=parts):
                return f"not {self._joined(parts, 'or')}"
            case Clause():
                return self._clause(condition)
            case _:
                raise NotExportedError(f"{condition}: a script has nothing like it")

    def _joined(self, parts: Iterable[Condition], word: str) -> str:
        return f"({f' {word} '.join(map(self.of, parts))})"

    def _clause(self, clause: Clause) -> str:
        if clause.subject.secret:
            raise NotExportedError(
                f"{clause.subject.key} is a secret, which scripts should not hold"
            )
        if clause.subject.several:
            raise NotExportedError(f"{clause.subject.key} may have several values")
        operand = clause.operands[0]
        if clause.subject.kind in ("flag", "number"):
            written = self._typed(clause)
        elif clause.operator == "exists":
            written = f"({self.value(clause.subject)} != {text_literal('')})"
        else:
            written = self._text(clause)
        is_absent = clause.operator == "exists" and not operand
        return f"(not {written})" if clause.negated or is_absent else written

    def _typed(self, clause: Clause) -> str:
        value, (operand, *_) = self._plain(clause.subject), clause.operands
        if clause.operator == "exists":
            return f"({value} is defined and {value} is not none)"
        if clause.operator == "equals":
            return f"({value} in [{', '.join(str(o).lower() for o in clause.operands)}])"
        sign = ">" if clause.operator == "greater" else "<"
        return f"({value} is defined and {value} is not none and {value} {sign} {operand})"

    def _text(self, clause: Clause) -> str:
        value = self.value(clause.subject)
        operands = [str(operand) for operand in clause.operands]
        match clause.operator:
            case "in_subnet":
                return f"pex_in_subnet({value}, [{networks(operands)}])"
            case "regex" | "glob":
                translate = python_pattern if clause.operator == "regex" else glob_pattern
                made = [translate(o, case_sensitive=clause.case_sensitive) for o in operands]
                found = _any(f"pex_regex_search({text_literal(p)}, {value})" for p in made)
                # To a rule an unset value is no text, not even an empty one.
                can_be_empty = any(re.search(pattern, "") for pattern in made)
                return f'({value} != "" and {found})' if can_be_empty else found
            case "greater" | "less":
                raise NotExportedError(f"{clause}: the value is a text")
            case _:
                pass
        if not clause.case_sensitive:
            value, operands = self.folded(clause.subject), [o.casefold() for o in operands]
            for operand in operands:
                if not operand.isascii():
                    raise NotExportedError(f"{brief(operand)} is not ASCII")
        written = [text_literal(operand) for operand in operands]
        match clause.operator:
            case "equals":
                return f"({value} in [{', '.join(written)}])"
            case "prefix":
                return _any(f"{value}.startswith({text})" for text in written)
            case "suffix":
                return _any(f"{value}.endswith({text})" for text in written)
            case _:
                return _any(f"{text} in {value}" for text in written)

    def value(self, subject: Subject) -> str:
        """Return the name of a variable with the text of a subject, empty where it has none."""
        name, _, part = subject.key.partition(".")
        if subject.kind == "alias" or (part and part != "raw"):
            return self._alias(name, part)
        plain = self._plain(subject)
        self.preamble.setdefault(name, f'{{% set {name} = {plain}|default("", true) %}}')
        return name

    def folded(self, subject: Subject) -> str:
        """Return the name of a variable with the same text without regard to case."""
        value = self.value(subject)
        name = f"{value}_folded"
        self.preamble.setdefault(name, f"{{% set {name} = {value}|lower{_folds()} %}}")
        return name

    def _plain(self, subject: Subject) -> str:
        name = subject.attribute
        if subject.key.partition(".")[0] == name:
            if name in CALL_INFO[self._kind]:
                return f"call_info.{name}"
            if self._kind == "participant" and name in PARTICIPANT:
                return f"participant.{name}"
        raise NotExportedError(f"a {self._kind} script does not know {subject.key}")

    def _alias(self, name: str, part: str) -> str:
        if part not in ("", "user", "host"):
            raise NotExportedError(f"a script does not know the {part} of an alias")
        if name not in CALL_INFO[self._kind]:
            raise NotExportedError(f"a {self._kind} script does not know {name}")
        self.preamble.setdefault(f"{name}_normal", _ALIAS.replace("NAME", name))
        return f"{name}_{part or 'normal'}"


@cache
def _folds() -> str:
    """Return filters for lower-case letters that are equal to letters of ASCII in other case."""
    found = (
        letter
        for letter in map(chr, range(0x80, 0x1_0000))
        if letter.lower() == letter
        and letter.casefold() != letter
        and any(part.isascii() for part in letter.casefold())
    )
    return "".join(f"|replace({text_literal(f)}, {text_literal(f.casefold())})" for f in found)


def networks(written: Iterable[str]) -> str:
    """Return networks as a list of texts; raises ``NotExportedError``.

    A mapped IPv4 address, such as ``::ffff:10.0.0.1``, is in the network of the IPv4 address.
    """
    found: dict[str, None] = {}
    for one in written:
        network = read_subnet(one)
        found[str(network)] = None
        if isinstance(network, IPv4Network):
            mapped = f"::ffff:{network.network_address}/{_MAPPED_BITS + network.prefixlen}"
            found[mapped] = None
        elif network.supernet_of(_MAPPED):  # type: ignore[arg-type]
            raise NotExportedError(f"{network} contains IPv4 addresses that are written as IPv6")
    return ", ".join(map(text_literal, found))


def _any(written: Iterable[str]) -> str:
    parts: list[str] = list(written)
    return f"({' or '.join(parts)})"


_ALIAS = r"""{% set NAME_lower = call_info.NAME|default("", true)|trim|lower %}
{% set NAME_rest = NAME_lower|pex_regex_replace("(?s)\\A(?:(?:sips?|h323|tel):\\s*)+", "") %}
{% set NAME_scheme = pex_regex_search(
  "(?s)\\A(?:(?:sips?|h323|tel):\\s*)*?(sips?|h323|tel):\\s*(?!(?:sips?|h323|tel):)",
  NAME_lower) %}
{% if "@" in NAME_rest %}
  {% set NAME_rest = NAME_rest
    |pex_regex_replace("(?s)\\A([^@]*@[^;?]*?)\\s*[;?].*\\Z", "\\1") %}
  {% set NAME_user = NAME_rest|pex_regex_replace("(?s)@[^@]*\\Z", "") %}
  {% set NAME_host = NAME_rest|pex_regex_replace("(?s)\\A.*@\\s*", "")
    |pex_regex_replace("(?s)\\A(?:([^:]*?)[.\\s]*|(.*\\])):[0-9]{0,5}[.\\s]*\\Z", "\\1\\2")
    |pex_regex_replace("(?s)[.\\s]+\\Z", "") %}
  {% if "@" in NAME_user and NAME_host == "" %}
    {% set NAME_user = NAME_user + "@" %}
  {% elif "@" not in NAME_user %}
    {% set NAME_user = NAME_user|pex_regex_replace("(?s);.*\\Z", "") %}
    {% if NAME_host and NAME_scheme and NAME_scheme[0] in ["sip", "sips"] %}
      {% set NAME_user = NAME_user|pex_regex_replace("(?s):.*\\Z", "") %}
    {% endif %}
  {% endif %}
{% else %}
  {% set NAME_host = "" %}
  {% set NAME_user = NAME_rest|pex_regex_replace("(?s)\\s*[;?].*\\Z", "") %}
  {% set NAME_address = NAME_user
    |pex_regex_replace("(?s)\\A([^:]*|.*\\]):[0-9]{0,5}\\Z", "\\1") %}
  {% if pex_in_subnet(NAME_address|pex_regex_replace("\\A\\[|\\]\\Z", ""), ANY) %}
    {% set NAME_user = NAME_address %}
  {% endif %}
{% endif %}
{% if NAME_scheme and NAME_scheme[0] == "tel" %}
  {% set NAME_user = NAME_user|pex_regex_replace("[-.() ]", "") %}
{% endif %}
{% set NAME_user = NAME_user|trim %}
{% set NAME_normal = NAME_user + "@" + NAME_host %}
{% if NAME_host == "" or (NAME_user and "@" not in NAME_user
  and pex_in_subnet(NAME_host|pex_regex_replace("\\A\\[|\\]\\Z", ""), ANY)) %}
  {% if "@" not in NAME_user %}
    {% set NAME_user = NAME_user|pex_regex_replace("(?s)[;?].*\\Z", "")|trim %}
  {% endif %}
  {% set NAME_normal = NAME_user %}
{% endif %}""".replace("ANY", ANY_ADDRESS)
"""The normal form of an alias, as rules compare it.

A text in which removing one part uncovers another of its kind may differ, such as
``tel:-[2001:db8::1]:``.
"""
