"""The outputs of a script on each way through its branches, without running it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from jinja2 import nodes

MAX_BRANCHES = 512
"""Ways through a script that are tried."""
UNKNOWN = "\ue000"
"""Stands for a value that only a run of the script has, and as a key for further keys."""
_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*"')


@dataclass(frozen=True, slots=True)
class Branch:
    """One way: its output with placeholders for values, and the lines of the conditions taken."""

    text: str = ""
    taken: tuple[tuple[int, bool], ...] = ()

    def __str__(self) -> str:
        ways = (f"line {line} {'true' if held else 'false'}" for line, held in self.taken)
        return ", ".join(ways) or "no condition"

    def plus(self, text: str) -> Branch:
        """Return the same with more output."""
        return Branch(self.text + text, self.taken)


def branches(tree: nodes.Template) -> tuple[list[Branch], bool]:
    """Return the ways through a script, and whether there are more than ``MAX_BRANCHES``."""
    found = _walk(tree.body, Branch())
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
                so_far = so_far.plus(_shown(part, so_far.text))
            yield so_far
        case nodes.If():
            yield from _condition(node, so_far)
        case nodes.For() | nodes.With() | nodes.FilterBlock() | nodes.Scope():
            yield from _walk(node.body, so_far)
        case _:
            yield so_far


def _condition(node: nodes.If, so_far: Branch) -> Iterator[Branch]:
    others = so_far
    for condition in (node, *node.elif_):
        taken = Branch(others.text, (*others.taken, (condition.lineno, True)))
        yield from _walk(condition.body, taken)
        others = Branch(others.text, (*others.taken, (condition.lineno, False)))
    yield from _walk(node.else_, others)


def _shown(part: nodes.Node, before: str) -> str:
    """Return the text of a part; a value that is not known is ``UNKNOWN``, as text in quotes."""
    if isinstance(part, nodes.TemplateData):
        return str(part.data)
    if is_call_of(part, "pex_debug_log"):
        return ""
    if isinstance(part, nodes.Const):
        return str(part.value)
    if is_quoted(before):
        return UNKNOWN
    if isinstance(part, nodes.Filter) and part.name == "pex_to_json" and part.node is not None:
        return json.dumps(_value(part.node))
    return json.dumps(UNKNOWN)


def is_quoted(before: str) -> bool:
    """Return whether what follows a text is between the quotes of a string."""
    return len(_QUOTE.findall(before)) % 2 == 1


def _value(node: nodes.Node) -> Any:
    """Return the value of an expression as far as the script writes it."""
    match node:
        case nodes.Const(value=value) if value is None or isinstance(value, str | int | float):
            return value
        case nodes.Dict(items=items):
            return {
                pair.key.value if isinstance(pair.key, nodes.Const) else UNKNOWN: _value(pair.value)
                for pair in items
            }
        case nodes.List(items=listed) | nodes.Tuple(items=listed):
            return [_value(item) for item in listed]
        case nodes.Filter(name="pex_update", node=nodes.Node() as base, args=[changes, *_]):
            before, after = _value(base), _value(changes)
            return {
                **(before if isinstance(before, dict) else {UNKNOWN: UNKNOWN}),
                **(after if isinstance(after, dict) else {UNKNOWN: UNKNOWN}),
            }
        case _:
            return UNKNOWN


def is_call_of(node: nodes.Node, name: str) -> bool:
    """Return whether a node calls a function of this name."""
    return (
        isinstance(node, nodes.Call)
        and isinstance(node.node, nodes.Name)
        and node.node.name == name
    )
