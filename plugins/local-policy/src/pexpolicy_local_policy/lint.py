"""Checks of a script: runs with sample variables, and what its text tells."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from jinja2 import TemplateSyntaxError, nodes

from pexpolicy import Decision, DecisionError
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import NO_EXTRAS, Extras, contract_of
from pexpolicy.text import did_you_mean, suggest
from pexpolicy_local_policy.language import (
    FUNCTION_NAMES,
    GLOBALS,
    MAX_SCRIPT_LENGTH,
    parse,
    unknown_filters,
    unknown_points,
)
from pexpolicy_local_policy.script_process import Job, Rendering, ScriptPool
from pexpolicy_local_policy.variables import (
    CALL_INFO,
    PARTICIPANT,
    TYPED,
    VARIABLES,
    Kind,
    ScriptInput,
)
from pexpolicy_local_policy.verdict import judge

MAX_NAMED = 24
"""Samples with a text that the script compares a variable with."""
NAME = "Sample"
_CALL: Mapping[str, Any] = {
    "call_direction": "dial_in",
    "ms_subnet": ["192.0.2.0"],
    "p_asserted_identity": ["sip:caller@example.com"],
    "protocol": "sip",
    "proxy_node_address": "192.0.2.2",
    "remote_address": "192.0.2.7",
    "trigger": "invite",
}
_PARTICIPANT: Mapping[str, Any] = {
    "display_count": 1,
    "idp_attributes": {},
    "participant_type": "standard",
    "preauthenticated_role": None,
    "send_to_audio_mixes": [{"mix_name": "main", "prominent": False}],
}
_REQUIRED: Mapping[str, Any] = {
    "name": NAME,
    "service_tag": "",
    "local_alias": "sample@example.com",
    "remote_alias": "sip:callee@example.com",
    "outgoing_protocol": "sip",
    "media_playlist_name": NAME,
    "automatic_participants": [],
    "breakout_rooms": [],
}
_LOCATIONS: Mapping[str, Any] = {
    "location": NAME,
    "primary_overflow_location": None,
    "secondary_overflow_location": None,
}


class Sample(NamedTuple):
    """The variables of one run, and how a message names them."""

    name: str
    given: ScriptInput
    fails: str = "error"
    """Level of a failure: a script may rely on what most calls have."""
    dropped: str = "error"
    """Level of an output that Infinity would drop."""
    quoted: bool = False
    """True for a value that a script must print by ``pex_to_json``."""


def samples(kind: Kind, tree: nodes.Template) -> Iterator[Sample]:
    """Yield variables: of each service type, of calls with few values, with texts of the script."""
    usual = _sample(kind, "conference")

    def given(name: str, changes: Mapping[str, Any], *levels: Any) -> Sample:
        return Sample(name, ScriptInput(kind, {**usual, **changes}), *levels)

    call_info = usual["call_info"]
    yield given("a conference", {})
    yield given("a registered device", {"call_info": {**call_info, "registered": True}})
    for service_type in [*SERVICE_TYPES][1:]:
        yield given(f"service_type {service_type}", _sample(kind, service_type), "warning")
    named = (found for found in _named(tree) if found[0] in usual)
    for variable, key, text in islice(dict.fromkeys(named), MAX_NAMED):
        changes = {variable: {**usual[variable], key: text}}
        yield given(f"{variable}.{key} = {text!r}", changes, "warning")
    for key in _CALLER:
        holders = [name for name in ("call_info", "participant") if key in usual.get(name, ())]
        changes = {name: {**usual[name], key: '"\\'} for name in holders}
        yield given(f"a quote or backslash in {key}", changes)._replace(quoted=True)
    without = {"service_config": None}
    yield given("no service_config", without, "warning", "warning")
    empty = {"call_info": dict.fromkeys(CALL_INFO[kind])}
    for few in (empty, {**without, **empty}):
        yield given("an empty call_info", few, "note", "warning")


def _sample(kind: Kind, service_type: str) -> dict[str, Any]:
    service = {
        name: value
        for name, value in _REQUIRED.items()
        if name in contract_of(SERVICE_TYPES[service_type]).names
    }
    found: dict[str, Any] = {
        "call_info": {name: _CALL.get(name, _text(name)) for name in CALL_INFO[kind]},
        "service_config": {
            **dict.fromkeys(sorted(contract_of(SERVICE_TYPES[service_type]).names)),
            **service,
            "service_type": service_type,
        },
        "participant": {name: _PARTICIPANT.get(name, _text(name)) for name in PARTICIPANT},
        "suggested_media_overflow_locations": _LOCATIONS,
    }
    return {name: found[name] for name in VARIABLES[kind]}


def _text(name: str) -> str | int | None:
    """Return a value of a call: a text for each alias and name, 0 for numbers and flags."""
    if name in TYPED:
        return 0
    return f"sample {name}" if name.endswith(("alias", "name", "location", "vendor")) else None


def _named(tree: nodes.Template) -> Iterator[tuple[str, str, Any]]:
    """Yield variable, key and value where a script compares a value with a constant."""
    for compared in tree.find_all(nodes.Compare):
        match compared.expr:
            case nodes.Getattr(node=nodes.Name(name=variable), attr=key):
                for constant in compared.find_all(nodes.Const):
                    if isinstance(constant.value, str):
                        yield variable, key, constant.value
            case _:
                pass


CheckNames = Callable[[Decision], None]
"""Raises ``DecisionError`` for a decision with a name that Infinity does not know."""
_CALLER = ("remote_alias", "remote_display_name", "vendor", "local_alias", "call_tag")
"""Values of ``call_info`` that callers choose."""
_FORGED = frozenset(("remote_alias", "remote_display_name", "vendor"))
_PIN = re.compile(r"\d{4,}")
"""Digits that may be a PIN which the script holds."""
_DECISIONS = (nodes.And, nodes.Call, nodes.Compare, nodes.Const, nodes.Not, nodes.Or, nodes.Test)
"""Expressions whose value is an outcome, and not the value of a caller itself."""
_OF_JINJA = ("loop", "caller", "varargs", "kwargs")
"""Variables of loops and macros."""
_LAST = ("time", "memory", "output", "process")
"""Failures after which no other sample is tried: each could take as long."""
_Variables = Mapping[str, frozenset[str]]
"""The values of a call that each variable is made of."""


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One finding; ``level`` is error, warning or note, and ``line`` 0 for the whole script."""

    level: str
    line: int
    text: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{self.level}: {where}{self.text}"


async def lint(
    pool: ScriptPool,
    source: str,
    kind: Kind,
    extras: Extras = NO_EXTRAS,
    names: CheckNames | None = None,
) -> list[LintFinding]:
    """Return the findings about a script, in the order of its lines.

    ``extras`` are fields and values that Infinity has too, and ``names`` checks names of its
    objects.
    """
    found = []
    if len(source) > MAX_SCRIPT_LENGTH:
        text = f"{len(source):,} characters, and Infinity stores {MAX_SCRIPT_LENGTH:,}"
        found.append(LintFinding("error", 0, text))
    try:
        tree = parse(source)
    except TemplateSyntaxError as error:
        return [*found, LintFinding("error", error.lineno, error.message or "is no script")]
    except RecursionError:
        return [*found, LintFinding("error", 0, "is nested too deeply")]
    wrong = [LintFinding("error", line, text) for line, text in unknown_filters(tree)]
    found += wrong
    found += [LintFinding("note", line, text) for line, text in unknown_points(tree)]
    found += [LintFinding("warning", line, text) for line, text in _unknown_names(tree, kind)]
    called = [(one.lineno, one.node) for one in tree.find_all(nodes.Call)]
    text = "pex_debug_log writes to the support log at each call: remove it"
    logged = nodes.Name("pex_debug_log", "load")
    doubts = [*((line, text) for line, function in called if function == logged), *_trust(tree)]
    found += [LintFinding("warning", line, text) for line, text in doubts]
    told: set[tuple[int, str]] = set()
    for sample in () if wrong else samples(kind, tree):
        rendering = await pool.run(Job(source, sample.given.variables))
        line = (rendering.failure and rendering.failure.line) or 0
        for level, text in _judged(sample, rendering, extras, names):
            # One sample is enough for each field, and for each line.
            if (about := (line, text.partition(":")[0])) not in told:
                told.add(about)
                shown = _PIN.sub("****", text if sample.quoted else f"{text} (with {sample.name})")
                found.append(LintFinding(level, line, shown))
        if rendering.failure is not None and rendering.failure.kind in _LAST:
            break
    return sorted(dict.fromkeys(found), key=lambda one: one.line)


def _unknown_names(tree: nodes.Template, kind: Kind) -> Iterator[tuple[int, str]]:
    """Yield the variables and keys that a script of this kind does not have."""
    assigned = {one.name for one in tree.find_all(nodes.Name) if one.ctx != "load"}
    assigned.update(one.name for one in tree.find_all(nodes.Macro))
    known = {*VARIABLES[kind], *FUNCTION_NAMES, *GLOBALS, *_OF_JINJA, *assigned}
    keys = {"call_info": CALL_INFO[kind], "participant": PARTICIPANT}
    for node in tree.find_all((nodes.Name, nodes.Getattr)):
        match node:
            case nodes.Name(name=name) if name not in known:
                holders = [f"{one}.{name}" for one in VARIABLES[kind] if name in keys.get(one, ())]
                guess = (
                    f"; did you mean {holders[0]}?" if holders else suggest(name, VARIABLES[kind])
                )
                yield node.lineno, f"{name}: a {kind} script has no such variable{guess}"
            case nodes.Getattr(node=nodes.Name(name=holder), attr=key) if (
                holder in VARIABLES[kind]
                and key not in keys.get(holder, (key,))
                and not hasattr(dict, key)
            ):
                text = f"{holder}.{key}: a {kind} script has no such value as far as is known"
                yield node.lineno, text + did_you_mean(key, keys[holder])
            case _:
                pass


def _judged(
    sample: Sample, rendering: Rendering, extras: Extras, names: CheckNames | None
) -> Iterator[tuple[str, str]]:
    """Yield level and text of what Infinity makes of the output for a sample."""
    failure, verdict = rendering.failure, judge(sample.given, rendering, extras)
    if sample.quoted:
        if failure is None and verdict.dropped and verdict.document is None:
            yield "warning", f"{sample.name} breaks the JSON: use pex_to_json"
        return
    if failure is not None:
        if failure.kind != "not applied":
            yield sample.fails, f"the script fails: {failure.text}"
    elif verdict.dropped:
        yield sample.dropped if verdict.document is not None else "error", verdict.dropped
    for text in verdict.warnings if sample.fails != "note" else ():
        # Without the list of all fields, which may have fifty.
        yield "warning", re.sub(r"; there are [^;]*", "", text)
    if names is not None and verdict.decision is not None:
        try:
            names(verdict.decision)
        except DecisionError as error:
            if error.refusal.value != NAME:
                yield "error", f"{error.refusal.field}: {error.refusal.rule}"


def _trust(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    """Yield conditions that depend on nothing but what a caller claims."""
    variables = _variables(tree)
    decisions = {
        name
        for one in tree.find_all(nodes.Assign)
        if isinstance(one.node, _DECISIONS)
        for name in _names(one.target)
    }
    for condition in tree.find_all(nodes.If):
        test = condition.test
        # Testing whether there is any value trusts no caller, even if a variable holds the value.
        if isinstance(test, nodes.Getattr) or (
            isinstance(test, nodes.Name) and test.name not in decisions
        ):
            continue
        read = _read(test, variables)
        if read and read <= _FORGED:
            text = f"trusts {', '.join(sorted(read))} alone, which any caller can choose"
            yield condition.lineno, text


def _variables(tree: nodes.Template) -> _Variables:
    """Return what each variable is made of."""
    made: dict[str, frozenset[str]] = {}
    for _ in range(2):  # twice, as a loop may read what it assigns later
        pairs: list[tuple[nodes.Node, nodes.Node]]
        pairs = [(one.target, one.node) for one in tree.find_all(nodes.Assign)]
        pairs += [(one.target, one.iter) for one in tree.find_all(nodes.For)]
        for target, value in pairs:
            for name in _names(target):
                made[name] = made.get(name, frozenset()) | _read(value, made)
    return made


def _names(target: nodes.Node) -> set[str]:
    """Return the variables that are assigned."""
    inside = {found.name for found in target.find_all(nodes.Name)}
    return {target.name, *inside} if isinstance(target, nodes.Name) else inside


def _read(expression: nodes.Node, variables: _Variables) -> frozenset[str]:
    """Return what of ``call_info`` decides the value of an expression."""
    found = [*expression.find_all(nodes.Getattr)]
    found += [expression] if isinstance(expression, nodes.Getattr) else []
    read = (
        one.attr
        for one in found
        if isinstance(one.node, nodes.Name) and one.node.name == "call_info"
    )
    named = (variables.get(name, frozenset()) for name in _names(expression))
    return frozenset(read).union(*named)
