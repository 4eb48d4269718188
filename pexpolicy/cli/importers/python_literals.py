"""Values that stand in a Python file as literals; the file is read and never executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pexpolicy.cli.importers.toml_merge import ImportFailed


@dataclass(frozen=True, slots=True)
class Literal:
    """A name, the line on which a value is assigned to it, and the value."""

    name: str
    line: int
    value: Any


def literals(path: Path) -> list[Literal]:
    """Every assignment of a literal, wherever it stands; raises ``ImportFailed``."""
    try:
        tree = ast.parse(path.read_text("utf-8-sig"), path.name)
    except OSError as error:
        raise ImportFailed(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, SyntaxError, ValueError, RecursionError) as error:
        raise ImportFailed(f"{path} cannot be read as Python: {error}") from None
    return sorted(_found(tree), key=lambda literal: literal.line)


def _found(tree: ast.AST) -> Iterator[Literal]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        try:
            plain = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                yield Literal(target.id, node.lineno, plain)
