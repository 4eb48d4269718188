"""What the variables of a script are made of, on whichever way they were assigned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from jinja2 import nodes

from pexpolicy_local_policy.constants import names_of

Sources = Mapping[str, frozenset[str]]
"""What each variable is made of."""


class Assignment(NamedTuple):
    """One name that is assigned an expression where some conditions hold."""

    name: str
    value: nodes.Node
    conditions: tuple[nodes.Node, ...]


def assignments(tree: nodes.Template) -> list[Assignment]:
    """Return the assignments of a script, those in macros excepted."""
    return [*_within(tree.body, ())]


def sources(
    found: Iterable[Assignment], read: Callable[[Assignment, Sources], frozenset[str]]
) -> Sources:
    """Return what each variable is made of, by what ``read`` returns for one assignment."""
    made: dict[str, frozenset[str]] = {}
    listed = list(found)
    before: Sources | None = None
    while made != before:
        before = dict(made)
        for one in listed:
            made[one.name] = made.get(one.name, frozenset()) | read(one, made)
    return made


def _within(body: Iterable[nodes.Node], conditions: tuple[nodes.Node, ...]) -> Iterator[Assignment]:
    for node in body:
        for target, value in _pairs(node):
            yield from (Assignment(name, value, conditions) for name in names_of(target))
        if isinstance(node, nodes.If):
            yield from _of_condition(node, conditions)
        elif not isinstance(node, nodes.Macro):
            yield from _within(node.iter_child_nodes(), conditions)


def _pairs(node: nodes.Node) -> Iterator[tuple[nodes.Node, nodes.Node]]:
    """Yield the targets of a statement, each with an expression that becomes part of its value."""
    match node:
        case nodes.Assign(target=target, node=value) | nodes.For(target=target, iter=value):
            yield target, value
        case nodes.With(targets=targets, values=given):
            yield from zip(targets, given, strict=True)
        case nodes.AssignBlock(target=target):
            for output in node.find_all(nodes.Output):
                yield from ((target, part) for part in output.nodes)
        case _:
            pass


def _of_condition(node: nodes.If, conditions: tuple[nodes.Node, ...]) -> Iterator[Assignment]:
    for one in (node, *node.elif_):
        conditions = (*conditions, one.test)
        yield from _within(one.body, conditions)
    yield from _within(node.else_, conditions)
