"""The outputs of a script on each way through its branches, without running it.

What the script assigns with ``set`` is followed: its conditions on such values are decided, and a
condition that was met before has the same outcome again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

from jinja2 import nodes

from pexpolicy_local_policy.constants import (
    UNKNOWN,
    WITHOUT_RESULT,
    Values,
    is_known,
    names_of,
    truth,
    value_of,
)

MAX_BRANCHES = 512
"""Ways through a script that are tried."""
_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*"')
_CHANGING = (*WITHOUT_RESULT, "pop", "popitem", "setdefault")
"""Methods that change a list or an object in place."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One way: its output with placeholders for values, and the lines of the conditions taken."""

    text: str = ""
    taken: tuple[tuple[int, bool], ...] = ()
    values: Values = field(default_factory=dict)
    """What was assigned, by name."""
    decided: tuple[tuple[nodes.Node, bool], ...] = ()
    """Conditions whose outcome is known on this way."""
    is_changed: bool = False
    """True for a script that changes lists or objects in place: theirs are not known."""

    def __str__(self) -> str:
        ways = (f"line {line} {'true' if held else 'false'}" for line, held in self.taken)
        return ", ".join(ways) or "no condition"

    def plus(self, text: str) -> Branch:
        """Return the same with more output."""
        return replace(self, text=self.text + text)

    def with_values(self, values: Values) -> Branch:
        """Return the same after an assignment, without the conditions that read these names."""
        kept = tuple(one for one in self.decided if values.keys().isdisjoint(names_of(one[0])))
        fixed = {
            name: UNKNOWN if self.is_changed and isinstance(value, dict | list) else value
            for name, value in values.items()
        }
        return replace(self, values={**self.values, **fixed}, decided=kept)

    def after(self, condition: nodes.If, *, held: bool) -> Branch:
        """Return the same after a condition."""
        taken = (*self.taken, (condition.lineno, held))
        test, inverted = _without_negations(condition.test)
        decided = (*self.decided, (test, held ^ inverted))
        return replace(self, taken=taken, decided=decided)

    def outcome(self, test: nodes.Node) -> bool | None:
        """Return the outcome of a condition, ``None`` if only a run can tell."""
        bare, inverted = _without_negations(test)
        known = (held ^ inverted for one, held in self.decided if one == bare)
        return next(known, truth(test, self.values))


def _without_negations(test: nodes.Node) -> tuple[nodes.Node, bool]:
    """Return a condition without ``not``, and whether that inverts its outcome."""
    inverted = False
    while isinstance(test, nodes.Not):
        test, inverted = test.node, not inverted
    return test, inverted


def branches(tree: nodes.Template) -> tuple[list[Branch], bool]:
    """Return the ways through a script, and whether there are more than ``MAX_BRANCHES``."""
    found = _walk(tree.body, Branch(is_changed=_changes_in_place(tree)))
    return found[:MAX_BRANCHES], len(found) > MAX_BRANCHES


def _walk(body: Sequence[nodes.Node], so_far: Branch) -> list[Branch]:
    """Return the first ways through a body, one more than are tried."""
    found = [so_far]
    for node in body:
        after = chain.from_iterable(_node(node, branch) for branch in found)
        found = list(islice(after, MAX_BRANCHES + 1))
    return found


def _node(node: nodes.Node, so_far: Branch) -> Iterator[Branch]:
    match node:
        case nodes.Output():
            for part in node.nodes:
                so_far = so_far.plus(_shown(part, so_far))
            yield so_far
        case nodes.If():
            yield from _condition(node, so_far)
        case nodes.Assign(target=target, node=expression):
            yield so_far.with_values(dict(_assigned(target, expression, so_far.values)))
        case nodes.AssignBlock():
            yield from _assigned_text(node, so_far)
        case nodes.For(target=target):
            inner = so_far.with_values(dict.fromkeys((*names_of(target), "loop"), UNKNOWN))
            yield from _scope(node.body, inner, so_far)
        case nodes.With(targets=targets, values=given):
            pairs = zip(targets, given, strict=True)
            values = [_assigned(*pair, so_far.values) for pair in pairs]
            yield from _scope(node.body, so_far.with_values(dict(chain(*values))), so_far)
        case nodes.FilterBlock() | nodes.Scope():
            yield from _scope(node.body, so_far, so_far)
        case nodes.Macro(name=name):
            yield so_far.with_values({name: UNKNOWN})
        case _:
            yield so_far


def _assigned(target: nodes.Node, expression: nodes.Node, values: Values) -> list[tuple[str, Any]]:
    """Return the names of a target with their values."""
    if isinstance(target, nodes.Name):
        return [(target.name, value_of(expression, values))]
    return [(name, UNKNOWN) for name in names_of(target)]


def _assigned_text(node: nodes.AssignBlock, so_far: Branch) -> Iterator[Branch]:
    """Yield the ways through ``set ... endset``, whose output is the value."""
    for branch in _walk(node.body, replace(so_far, text="")):
        is_plain = node.filter is None and isinstance(node.target, nodes.Name)
        value = branch.text if is_plain and is_known(branch.text) else UNKNOWN
        values = dict.fromkeys(names_of(node.target), value)
        outer = replace(branch, text=so_far.text, values=so_far.values, decided=so_far.decided)
        yield outer.with_values(values)


def _scope(body: Sequence[nodes.Node], inner: Branch, outer: Branch) -> Iterator[Branch]:
    """Yield the ways through a body whose assignments end with it."""
    for branch in _walk(body, inner):
        yield replace(branch, values=outer.values, decided=outer.decided)


def _condition(node: nodes.If, so_far: Branch) -> Iterator[Branch]:
    others = so_far
    for condition in (node, *node.elif_):
        outcome = others.outcome(condition.test)
        if outcome is not False:
            yield from _walk(condition.body, others.after(condition, held=True))
        if outcome:
            return
        others = others.after(condition, held=False)
    yield from _walk(node.else_, others)


def _shown(part: nodes.Node, so_far: Branch) -> str:
    """Return the text of a part; a value that is not known is ``UNKNOWN``, as text in quotes."""
    if isinstance(part, nodes.TemplateData):
        return str(part.data)
    if is_call_of(part, "pex_debug_log"):
        return ""
    value = value_of(part, so_far.values)
    if is_known(value):
        return str(value)
    if is_quoted(so_far.text):
        return UNKNOWN
    if isinstance(part, nodes.Filter) and part.name == "pex_to_json" and part.node is not None:
        return json.dumps(value_of(part.node, so_far.values), ensure_ascii=False)
    return f'"{UNKNOWN}"'


def is_quoted(before: str) -> bool:
    """Return whether what follows a text is between the quotes of a string."""
    return len(_QUOTE.findall(before)) % 2 == 1


def is_call_of(node: nodes.Node, name: str) -> bool:
    """Return whether a node calls a function of this name."""
    return (
        isinstance(node, nodes.Call)
        and isinstance(node.node, nodes.Name)
        and node.node.name == name
    )


def _changes_in_place(tree: nodes.Template) -> bool:
    """Return whether a script may change a list or an object that it has assigned."""
    called = (call.node for call in tree.find_all(nodes.Call))
    return any(isinstance(one, nodes.Getattr) and one.attr in _CHANGING for one in called)
