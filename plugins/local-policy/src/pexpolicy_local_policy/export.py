"""The rules of a configuration as a local policy script.

Patterns of rules are those of RE2, which never takes long; those of scripts are Python's. A pattern
is translated where both surely mean the same, and where Python's cannot take long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, ip_network
from typing import Any, NamedTuple

from pexpolicy import Continue, Decision, MediaLocation
from pexpolicy.matching import All, AnyOf, Clause, Condition, NoneOf, Subject
from pexpolicy.models.subnets import read_subnet
from pexpolicy.testing import Policy
from pexpolicy.text import brief
from pexpolicy_local_policy.language import MAX_SCRIPT_LENGTH
from pexpolicy_local_policy.node_policy import SUGGESTED
from pexpolicy_local_policy.variables import CALL_INFO, ENDPOINT_OF, PARTICIPANT, Kind

_TOKEN = re.compile(
    r"""(?P<group>\((?:\?:)?|\)\??|\||\^|\$)
    |(?:\[(?P<not>\^?)(?P<class>-?(?:\\[dws]|[a-z]-[a-z]|[A-Z]-[A-Z]|[0-9]-[0-9]|[\w.@+:;/, ])+-?)\]
        |(?P<set>\\[dws])|(?P<dot>\.)|\\(?P<escaped>[^A-Za-z0-9])|(?P<letter>[^\\[\](){}*+?|^$.]))
     (?P<many>[*+?]|\{\d{1,3}\})?(?![*+?{])""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_ITEMS = re.compile(r"\\[dws]|[a-z]-[a-z]|[A-Z]-[A-Z]|[0-9]-[0-9]|.").findall
_SETS = {r"\d": "0-9", r"\w": "0-9A-Z_a-z", r"\s": "\t\n\f\r "}
_PLACES = {"(": "(?:", "^": r"\A", "$": r"\Z"}
_FOLDED = {"k": "\N{KELVIN SIGN}", "s": "\N{LATIN SMALL LETTER LONG S}"}
"""Letters outside of ASCII that are equal to one of it without regard to case."""
_UNBOUNDED_WAYS = 140
"""Ways in which one of up to three unbounded repetitions may match. Infinity sends texts of at most
250 characters, which three can divide in 250³/6 ways: about 140³.
"""
_MAX_WAYS = 6_000_000
"""Three unbounded repetitions and one choice of two; trying as many takes less than a second."""


class NotExportedError(Exception):
    """Something that a script cannot do; the text says what."""


def text_literal(text: str) -> str:
    """Return a text as it is written in an expression of a script."""
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if " " <= letter <= "~":
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) <= 0xFFFF else f"\\U{ord(letter):08x}"  # noqa: PLR2004 - the longest \u


def python_pattern(source: str, *, case_sensitive: bool) -> str:
    """Return the pattern of a rule for ``pex_regex_search``; raises ``NotExportedError``."""
    made, at, ways = "", 0, 1
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise NotExportedError(
                f"the pattern {brief(source)} has {source[at:][:8]!r} at character {at + 1}, whose "
                "counterpart in scripts is unsure"
            )
        at = found.end()
        if (part := found["group"]) is not None:
            made += _PLACES.get(part, part)
            ways *= 2 if part in (")?", "|") else 1
            continue
        if found["dot"]:
            made += "."
        elif letter := found["escaped"] or found["letter"]:
            made += _one(letter, case_sensitive=case_sensitive)
        else:
            letters = found["class"] or found["set"]
            made += _class(letters, found["not"] or "", case_sensitive=case_sensitive)
        many = found["many"] or ""
        made += many
        ways *= _UNBOUNDED_WAYS if many in ("*", "+") else 2 if many == "?" else 1
    return _whole(source, made, ways)


def glob_pattern(source: str, *, case_sensitive: bool) -> str:
    """Return the pattern of a glob; raises ``NotExportedError``."""
    shortest = re.sub(r"\*+", "*", source)
    pieces = {"*": ".*", "?": "."}
    made = (pieces.get(c) or _one(c, case_sensitive=case_sensitive) for c in shortest)
    return _whole(source, "".join(made), _UNBOUNDED_WAYS ** shortest.count("*"))


def _whole(source: str, made: str, ways: int) -> str:
    if ways > _MAX_WAYS:
        raise NotExportedError(
            f"the pattern {brief(source)} may be tried in too many ways, which can take a script "
            "long: at most three repetitions without a limit, and few choices with them"
        )
    return f"(?s)\\A(?:{made})\\Z"


def _one(letter: str, *, case_sensitive: bool) -> str:
    if not letter.isascii():
        raise NotExportedError(f"{brief(letter)} in a pattern is not ASCII")
    if case_sensitive or not letter.isalpha():
        return re.escape(letter)
    lower = letter.lower()
    return f"[{lower}{lower.upper()}{_FOLDED.get(lower, '')}]"


def _class(letters: str, negation: str, *, case_sensitive: bool) -> str:
    items = (
        _SETS.get(item) or (re.escape(item) if len(item) == 1 else item) for item in _ITEMS(letters)
    )
    made = "".join(items)
    if not case_sensitive:
        has = re.compile(f"[{made}]", re.IGNORECASE | re.ASCII).match
        made += made.swapcase() + "".join(_FOLDED[letter] for letter in _FOLDED if has(letter))
    return f"[{negation}{made}]"


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
        self.preamble.setdefault(name, f"{{% set {name} = {value}|lower{_FOLDS} %}}")
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


_FOLDS = "".join(
    f"|replace({text_literal(letter)}, {text_literal(letter.casefold())})"
    for letter in "\xdf\u0149\u017f\u01f0\u1e96\u1e97\u1e98\u1e99\u1e9a"
    "\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06"
)
"""Filters for lower-case letters that are equal to letters of ASCII in other case."""
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


class ExportError(Exception):
    """A configuration that does not fit into a script, with all ``problems``."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class _Step(NamedTuple):
    """One ``if`` of the script; without a decision, what follows its plugin decides."""

    name: str
    condition: str
    decision: Decision | None


def export(policy: Policy, kind: Kind) -> str:
    """Return the script of one kind that decides as a policy; raises ``ExportError``."""
    endpoint, expressions = ENDPOINT_OF[kind], Expressions(kind)
    chain, table = policy.chains[endpoint], policy.settings.endpoints.get(endpoint)
    instances = {plugin.name: plugin.instance for plugin in policy.plugins}
    problems: list[str] = []
    if table is not None and table.combine == "merge":
        problems.append(f"endpoints.{endpoint}: a script cannot merge answers")
    groups: list[list[_Step]] = []
    for link in chain.links:
        instance = instances.get(link.plugin)
        if link.hook not in ("", endpoint):
            problems.append(f"{link.plugin}: it adjusts the decisions of others")
        elif hasattr(instance, "compiled_rules"):
            groups.append(list(_rules(instance, endpoint, expressions, problems)))
        else:
            problems.append(f"{link.plugin}: it answers too, and only rules fit")
    if problems:
        raise ExportError(problems)
    body = _output(kind, chain.default)
    for steps in reversed(groups):
        body = _branches(kind, steps, body)
    head = "{# Made by pexpolicy local-policy export: change the configuration and export it. #}"
    made = "\n".join((head, *expressions.preamble.values(), "{", body, "}")) + "\n"
    if len(made) > MAX_SCRIPT_LENGTH:
        most = f"Infinity stores {MAX_SCRIPT_LENGTH:,}"
        raise ExportError([f"the script has {len(made):,} characters, and {most}"])
    return made


def _rules(
    plugin: Any, endpoint: str, expressions: Expressions, problems: list[str]
) -> Iterator[_Step]:
    for name, condition, answer in plugin.compiled_rules(endpoint):
        if answer.is_dynamic:
            problems.append(f"rule {name!r}: its answer has placeholders")
            continue
        try:
            yield _Step(f"rule {name}", expressions.of(condition), answer.fixed)
        except NotExportedError as error:
            problems.append(f"rule {name!r}: {error}")


def _branches(kind: Kind, steps: Sequence[_Step], rest: str) -> str:
    """Return the branches of one plugin; ``rest`` is what those that follow it decide."""
    if not steps:
        return rest
    lines = []
    for number, step in enumerate(steps):
        name = "".join(c for c in step.name if c not in "{#%}" and c.isprintable())
        comment = f" {{# {name} #}}" if step.name else ""
        lines.append(f"{{% {'elif' if number else 'if'} {step.condition} %}}{comment}")
        lines.append(rest if step.decision is None else _output(kind, step.decision))
    return "\n".join((*lines, "{% else %}", rest, "{% endif %}"))


def _output(kind: Kind, decision: Decision) -> str:
    """Return what a script prints for a decision."""
    if isinstance(decision, Continue):
        return _KEPT[kind]
    result = json.dumps(json.loads(decision.result or b"{}"))
    for mark in ("{{", "{%", "{#"):  # they begin a part of the script's language
        result = result.replace(mark, "".join(f"\\u{ord(letter):04x}" for letter in mark))
    if isinstance(decision, MediaLocation):
        return f'"result": {result}'
    return f'"action": "{decision.action}", "result": {result}'


_KEPT: dict[Kind, str] = {
    "service": """{% if service_config %}
"action": "continue", "result": {{ service_config|pex_to_json }}
{% else %}
"action": "reject", "result": {}
{% endif %}""",
    "participant": '"action": "continue", "result": {}',
    "media_location": f'"result": {{{{ {SUGGESTED}|pex_to_json }}}}',
}
"""What leaves the decision to Infinity."""
