"""The values of expressions as far as a script writes them, without running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import nodes

UNKNOWN = "\ue000"
"""Stands for a value that only a run of the script has, and as a key for further keys."""
Values = Mapping[str, Any]
"""What the script has assigned, by name."""
WITHOUT_RESULT = ("append", "clear", "extend", "insert", "remove", "reverse", "sort", "update")
"""Methods that change a list or an object in place, and return nothing."""
_NEGATED: Mapping[bool | None, bool | None] = {True: False, False: True, None: None}
_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda left, right: left == right,
    "ne": lambda left, right: left != right,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}


def value_of(node: nodes.Node, values: Values) -> Any:
    """Return the value of an expression; parts that are not written in it are ``UNKNOWN``."""
    match node:
        case nodes.Const(value=value) if value is None or isinstance(value, str | int | float):
            return value
        case nodes.Name(name=name):
            return values.get(name, UNKNOWN)
        case nodes.Dict(items=items):
            return {
                pair.key.value if isinstance(pair.key, nodes.Const) else UNKNOWN: value_of(
                    pair.value, values
                )
                for pair in items
            }
        case nodes.List(items=listed) | nodes.Tuple(items=listed):
            return [value_of(item, values) for item in listed]
        case _:
            return _computed(node, values)


def _computed(node: nodes.Node, values: Values) -> Any:
    match node:
        case nodes.Filter(name="pex_update", node=nodes.Node() as base, args=[changes, *_]):
            before, after = value_of(base, values), value_of(changes, values)
            return {
                **(before if isinstance(before, dict) else {UNKNOWN: UNKNOWN}),
                **(after if isinstance(after, dict) else {UNKNOWN: UNKNOWN}),
            }
        case nodes.Call(node=nodes.Getattr(attr=method)) if method in WITHOUT_RESULT:
            return None
        case nodes.Or(left=left, right=right) | nodes.And(left=left, right=right):
            held = truth(left, values)
            if held is None:
                return UNKNOWN
            return value_of(left if held is isinstance(node, nodes.Or) else right, values)
        case _:
            return UNKNOWN


def is_known(value: Any) -> bool:
    """Return whether no part of a value is ``UNKNOWN``."""
    if isinstance(value, dict):
        return all(is_known(name) and is_known(inner) for name, inner in value.items())
    if isinstance(value, list):
        return all(map(is_known, value))
    return not (isinstance(value, str) and UNKNOWN in value)


def truth(test: nodes.Node, values: Values) -> bool | None:
    """Return the outcome of a condition, ``None`` if only a run can tell."""
    match test:
        case nodes.Not(node=inner):
            return _NEGATED[truth(inner, values)]
        case nodes.And(left=left, right=right):
            return _all([truth(left, values), truth(right, values)])
        case nodes.Or(left=left, right=right):
            return _NEGATED[_all([_NEGATED[truth(one, values)] for one in (left, right)])]
        case nodes.Compare(expr=expr, ops=[nodes.Operand(op=operator, expr=other)]):
            return _compared(value_of(expr, values), operator, value_of(other, values))
        case _:
            value = value_of(test, values)
            return bool(value) if is_known(value) else None


def _all(outcomes: list[bool | None]) -> bool | None:
    if False in outcomes:
        return False
    return None if None in outcomes else True


def _compared(left: Any, operator: str, right: Any) -> bool | None:
    compare = _COMPARED.get(operator)
    if compare is None or not is_known(left) or not is_known(right):
        return None
    try:
        return compare(left, right)
    except TypeError:
        return None


def names_of(node: nodes.Node) -> frozenset[str]:
    """Return the variables that an expression reads."""
    inside = {found.name for found in node.find_all(nodes.Name)}
    return frozenset({node.name, *inside} if isinstance(node, nodes.Name) else inside)
