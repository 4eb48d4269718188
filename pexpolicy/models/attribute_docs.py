"""Docstrings of attributes, which Python does not keep: read from the source."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from textwrap import dedent

_LIBRARIES = frozenset(("abc", "builtins", "enum", "msgspec", "pydantic", "typing"))
"""Packages of base classes whose attributes are not explained."""


def attribute_docs(documented: type) -> dict[str, str]:
    """Return the docstring after each attribute of a class and its bases, on one line each.

    Raises ``OSError`` where the source is not installed.
    """
    bases = reversed(documented.__mro__)
    return {name: doc for base in bases for name, doc in _own_docs(base).items()}


@cache
def _own_docs(documented: type) -> dict[str, str]:
    docs: dict[str, str] = {}
    is_ours = documented.__module__.partition(".")[0] not in _LIBRARIES
    for node in ast.walk(ast.parse(dedent(inspect.getsource(documented)) if is_ours else "")):
        for pair in pairwise(node.body if isinstance(node, ast.ClassDef | ast.If) else ()):
            match pair:
                case (
                    ast.AnnAssign(target=ast.Name(id=name))
                    | ast.Assign(targets=[ast.Name(id=name)]),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    docs[name] = " ".join(text.split())
                case _:
                    pass
    return docs
