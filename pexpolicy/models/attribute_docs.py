"""Docstrings of attributes, which Python does not keep: read from the source."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from textwrap import dedent

_LIBRARIES = frozenset(("abc", "builtins", "enum", "msgspec", "pydantic", "typing"))
"""Packages of base classes whose attributes are not explained."""


_SENTENCES = re.compile(r"(.*?)(?: Default: (\S+)\.)?").fullmatch


def field_docs(model: type) -> dict[str, tuple[str, str]]:
    """Return the meaning and the default of each field of a model."""
    found = {name: _SENTENCES(doc) for name, doc in attribute_docs(model).items()}
    return {name: (parts[1], parts[2] or "") for name, parts in found.items() if parts}


def attribute_docs(documented: type) -> dict[str, str]:
    """Return the docstring after each attribute of a class and its bases, on one line each.

    Raises ``OSError`` where the source is not installed.
    """
    docs: dict[str, str] = {}
    for base in reversed(documented.__mro__):
        if base.__module__.partition(".")[0] in _LIBRARIES:
            continue
        (tree,) = ast.parse(dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        statements = list(_statements(tree))
        for node, following in pairwise(statements):
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            target = node.target if isinstance(node, ast.AnnAssign) else target
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))) if isinstance(target, ast.Name):
                    docs[target.id] = " ".join(text.split())
    return docs


def _statements(tree: ast.ClassDef | ast.If) -> Iterator[ast.stmt]:
    """Yield the statements of a class, those below ``if TYPE_CHECKING`` among them."""
    for node in tree.body:
        if isinstance(node, ast.If):
            yield from _statements(node)
        else:
            yield node
