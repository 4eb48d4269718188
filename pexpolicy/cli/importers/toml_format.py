"""Tables as TOML that a person would write: one key a line, dotted, patterns in single quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import tomlkit

_BARE = re.compile(r"[A-Za-z0-9_-]+").fullmatch


def block(header: str, table: Mapping[str, Any], comments: tuple[str, ...] = ()) -> str:
    """A table below its header, such as ``[[rules]]``, with comments above it."""
    lines = [*(f"# {comment}" for comment in comments), header, *dotted_lines(table)]
    return "\n".join(lines) + "\n"


def dotted_lines(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Each value on a line of its own, behind its dotted key."""
    for name, value in table.items():
        key = f"{prefix}{quoted(name)}"
        if isinstance(value, Mapping) and value:
            yield from dotted_lines(value, f"{key}.")
        else:
            yield f"{key} = {written(value)}"


def quoted(name: str) -> str:
    """A key as it stands in TOML."""
    return name if _BARE(name) else tomlkit.item(name).as_string()


def written(value: Any) -> str:
    """A value as it stands behind a key."""
    if isinstance(value, Mapping):
        inside = ", ".join(dotted_lines(value))
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, str) and "\\" in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    text: str = tomlkit.item(value).as_string()
    return text
