"""The outputs of a script on each way through its branches, without running it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from jinja2 import nodes

MAX_BRANCHES = 512
"""Ways through a script that are tried."""
_OBJECTS = ("pex_to_json", "pex_update")


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
    """Return the text of a part; a value is ``x`` in quotes, and else an object or a number."""
    if isinstance(part, nodes.TemplateData):
        return str(part.data)
    if is_call_of(part, "pex_debug_log"):
        return ""
    if isinstance(part, nodes.Const):
        return str(part.value)
    if isinstance(part, nodes.Filter) and part.name in _OBJECTS:
        return "{}"
    return "x" if before.count('"') % 2 else "0"


def is_call_of(node: nodes.Node, name: str) -> bool:
    """Return whether a node calls a function of this name."""
    return (
        isinstance(node, nodes.Call)
        and isinstance(node.node, nodes.Name)
        and node.node.name == name
    )
