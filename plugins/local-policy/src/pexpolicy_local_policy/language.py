"""Parts of the language of scripts of which it is unknown whether or how Infinity has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jinja2 import nodes

from pexpolicy.text import did_you_mean
from pexpolicy_local_policy.functions import FUNCTION_NAMES, TEXT_FILTERS
from pexpolicy_local_policy.sandbox import BUILT_IN_FILTERS

ALL_FILTERS = frozenset((*BUILT_IN_FILTERS, *TEXT_FILTERS, *FUNCTION_NAMES))
_STATEMENTS: Mapping[type[nodes.Node], str] = {
    nodes.For: "for",
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.FilterBlock: "filter",
    nodes.With: "with",
    nodes.AssignBlock: "set ... endset",
    nodes.ScopedEvalContextModifier: "autoescape",
}
_SEEN_TESTS = ("defined", "none", "undefined")
_SEEN_METHODS = ("endswith", "extend", "get", "startswith")
_GLOBALS = ("cycler", "dict", "joiner", "namespace", "range")
_OPEN: Mapping[str, str] = {
    "pex_base64": "that it pads with = and uses + and / is assumed",
    "pex_find_first_match": "whether the whole text must match is unknown; here it may be a part",
    "pex_md5": "that it prints hexadecimal digits is assumed",
    "pex_to_uuid": "the order of bytes is unknown; here it is that of an objectGUID",
    "pex_url_encode": "which characters stay is unknown; here letters, digits and _.-~",
}
_MEANT: Mapping[str, str] = {
    "count": "length",
    "d": "default",
    "string": "join, as in [value]|join",
    "tojson": "pex_to_json",
    "urlencode": "pex_url_encode",
}
"""Filters of Jinja that Infinity has under another name only."""
NOT_SEEN = "no public script has it, and whether Infinity runs it is unknown"


def unknown_filters(tree: nodes.Template) -> list[tuple[int, str]]:
    """Return line and text of each filter that Infinity does not have."""
    return [
        (node.lineno, f"Infinity has no filter {node.name!r}{_instead(node.name)}")
        for node in tree.find_all(nodes.Filter)
        if node.name not in ALL_FILTERS
    ]


def _instead(name: str) -> str:
    meant = _MEANT.get(name)
    return f"; write {meant}" if meant else did_you_mean(name, ALL_FILTERS)


def unknown_points(tree: nodes.Template) -> list[tuple[int, str]]:
    """Return line and text of what is unknown about a script, each text once."""
    found: dict[str, int] = {}
    for line, text in _points(tree):
        found.setdefault(text, line)
    return sorted((line, text) for text, line in found.items())


def _points(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    for node in tree.find_all(nodes.Node):
        name = _STATEMENTS.get(type(node))
        if name is not None:
            yield node.lineno, f"{name}: {NOT_SEEN}"
        match node:
            case nodes.Filter(name=str(used)):
                yield from _filter(node.lineno, used)
            case nodes.Test(name=test) if test not in _SEEN_TESTS:
                yield node.lineno, f"is {test}: {NOT_SEEN}"
            case nodes.Call(node=nodes.Name(name=called)):
                yield from _call(node, called)
            case nodes.Call(node=nodes.Getattr(attr=method)) if method not in _SEEN_METHODS:
                yield node.lineno, f".{method}(): {NOT_SEEN}"
            case _:
                pass


def _filter(line: int, name: str) -> Iterator[tuple[int, str]]:
    if name in FUNCTION_NAMES and name != "pex_random_pin":
        yield line, f"{name} as a filter: no public script does this; it is a function"
    if name in _OPEN:
        yield line, f"{name}: {_OPEN[name]}"


def _call(node: nodes.Call, name: str) -> Iterator[tuple[int, str]]:
    if name in _GLOBALS:
        yield node.lineno, f"{name}(): {NOT_SEEN}"
    if name in _OPEN:
        yield node.lineno, f"{name}: {_OPEN[name]}"
    pattern = node.args[0] if node.args else None
    if (
        name == "pex_regex_search"
        and isinstance(pattern, nodes.Const)
        and "(" not in str(pattern.value)
    ):
        yield (
            node.lineno,
            "pex_regex_search without a group: what it returns is unknown; here the whole match",
        )
