"""Places in the files of a configuration: file and line of a key, and of an alias."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pexpolicy import Alias, Key
from pexpolicy.config.problems import dotted_key

MAX_BYTES = 64 << 20
"""Size of a file up to which it is searched for an alias."""
MAX_PLACES = 50
_LINE = re.compile(r"\S.* line \d+")
_HEADER = re.compile(r"\s*(\[\[?)([^\n]*?)(\]\]?)\s*(?:#.*)?")
_WORDS = re.compile(r"""[^\s"',;=|\[\]{}()<>]+""")


def place_of(config: Path, content: str, plugin: str, key: Key) -> str:
    """Return file and line of a key of a plugin's settings, or the dotted key.

    Plugins end the key of what is written in a file of their own with file and line.
    """
    for part in reversed(key):
        if isinstance(part, str) and _LINE.fullmatch(part):
            return part
    whole: Key = ("plugins", plugin, "settings", *key)
    line = line_of(content, whole)
    return f"{config.name} line {line}" if line else dotted_key(whole)


def line_of(content: str, key: Key) -> int:
    """Return the line of a key in a TOML text, or of the table that is nearest to it; else 0."""
    best = depth = 0
    counts: dict[tuple[str, ...], int] = {}
    table: Key = ()
    for number, line in enumerate(content.splitlines(), 1):
        found: Key = ()
        if (match := _HEADER.fullmatch(line)) is not None and (names := _parts(match[2])):
            found = table = _numbered(names, counts, is_array=match[1] == "[[")
        elif table == key[: len(table)] and (names := _parts(line.partition("=")[0])):
            found = (*table, *names)
        shared = min(len(found), len(key))
        if shared > depth and found[:shared] == key[:shared]:
            best, depth = number, shared
    return best


def _numbered(names: Key, counts: dict[tuple[str, ...], int], *, is_array: bool) -> Key:
    """Return the key of a header, with the positions of the tables in arrays."""
    numbered: list[str | int] = []
    path: tuple[str, ...] = ()
    for at, name in enumerate(map(str, names)):
        numbered.append(name)
        path = (*path, name)
        if at == len(names) - 1 and is_array:
            counts[path] = counts.get(path, -1) + 1
            # Tables inside of the previous element are counted again.
            for other in [one for one in counts if one[: len(path)] == path and one != path]:
                del counts[other]
        if path in counts:
            numbered.append(counts[path])
    return tuple(numbered)


def _parts(written: str) -> Key:
    """Return the parts of a dotted key; empty if it is none."""
    try:
        found: Any = tomllib.loads(f"{written.strip()} = 0")
    except (ValueError, RecursionError):
        return ()
    parts: list[str] = []
    while isinstance(found, dict) and len(found) == 1:
        ((name, found),) = found.items()
        parts.append(name)
    return tuple(parts) if found == 0 else ()


def places_of_alias(files: Iterable[Path], alias: Alias) -> list[str]:
    """Return file and line wherever the alias is written in any spelling, or its domain alone."""
    found: list[str] = []
    for path in dict.fromkeys(files):
        found += _in_file(path, alias, MAX_PLACES - len(found))
        if len(found) >= MAX_PLACES:
            break
    return found


def _in_file(path: Path, alias: Alias, limit: int) -> Iterator[str]:
    if path.suffix.lower() not in (".toml", ".csv", ".tsv", ".json", ".txt"):
        return
    try:
        if path.stat().st_size > MAX_BYTES:
            return
        text = path.read_text("utf-8", "replace")
    except OSError:
        return
    wanted = {str(alias), f"@{alias.host}"} if alias.host else {str(alias)}
    for number, line in enumerate(text.splitlines(), 1):
        # The user part is in any spelling of the alias, so most lines need no further look.
        lowered = line.lower()
        if alias.user not in lowered and not (alias.host and f"@{alias.host}" in lowered):
            continue
        if not line.lstrip().startswith("#") and any(_names(word, wanted) for word in words(line)):
            yield f"{path.name} line {number}"
            limit -= 1
            if limit <= 0:
                return


def words(line: str) -> list[str]:
    """Return the words of a line of TOML, CSV or JSON, without quotes."""
    return _WORDS.findall(line)


def _names(word: str, wanted: set[str]) -> bool:
    return word.lower() in wanted if word.startswith("@") else str(Alias(word)) in wanted
