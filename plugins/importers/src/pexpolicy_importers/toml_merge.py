"""Updates of TOML files that keep comments and everything else that did not change."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from pexpolicy.config.csv_tables import read_text
from pexpolicy.config.files import missing_hint

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+").fullmatch


class ImportFailed(ValueError):
    """A file that cannot be imported; the text names it and says why."""


@dataclass(slots=True)
class MergeSummary:
    """The names of all entries, by what the import did with them."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Entries of the target that the imported file does not have."""
    remarks: list[str] = field(default_factory=list)
    """What else the user should know about the changes."""

    def __str__(self) -> str:
        counts = {
            "added": self.added,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "kept though not in the file": self.kept,
        }
        parts = [f"{len(names)} {action}" for action, names in counts.items() if names]
        return ", ".join(parts) or "nothing to do"


def read_document(path: Path) -> tomlkit.TOMLDocument:
    """Return the file with its comments, or an empty document.

    Raise ``ImportFailed``, and ``TableError`` for a file that is no text.
    """
    text = read_text(path) if path.exists() else ""
    try:
        return tomlkit.parse(text)
    except (TOMLKitError, RecursionError) as error:
        raise ImportFailed(f"{path} is not valid TOML: {error}") from None


def table_at(document: Any, dotted: str) -> Any:
    """Return the table below a dotted key, or an empty one; raise ``ImportFailed``."""
    table = document
    for part in dotted.split("."):
        table = table.get(part, {})
        if not isinstance(table, Mapping):
            raise ImportFailed(f"{dotted} is not a table")
    return table


def write_document(
    path: Path, document: tomlkit.TOMLDocument, blocks: Sequence[str] = (), *, private: bool = False
) -> None:
    """Replace the file by a document and further blocks, with its owner and mode, atomically.

    A symbolic link stays one, and a new file that is ``private`` gets mode 0600. Raise
    ``ImportFailed``, with the file unchanged, also where its text would not be read as meant.
    """
    written = tomlkit.dumps(document)
    parts = (part.rstrip("\n") for part in (written, *blocks))
    text = "\n\n".join(filter(None, parts)) + "\n" if blocks else written
    try:
        is_as_meant = tomllib.loads(written) == unwrap(document) and tomllib.loads(text) is not None
    except ValueError:
        is_as_meant = False
    if not is_as_meant:
        how = f"write each below a line like {blocks[0].partition(chr(10))[0]}" if blocks else ""
        raise ImportFailed(f"{path} cannot be updated: {how or 'delete what is changed first'}")
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        if private or target.exists():
            temporary.touch(0o600, exist_ok=False)
        if target.exists():
            status = target.stat()
            with suppress(PermissionError):
                os.chown(temporary, status.st_uid, status.st_gid)
            temporary.chmod(stat.S_IMODE(status.st_mode))
        temporary.write_text(text, "utf-8")
        temporary.replace(target)
    except OSError as error:
        why = f"{error.strerror}{missing_hint(path)}"
        raise ImportFailed(f"{path} cannot be written: {why}") from None
    except UnicodeEncodeError as error:  # half a character
        raise ImportFailed(f"{path} cannot be written: {error}") from None


def update(old: MutableMapping[str, Any], new: Mapping[str, Any]) -> None:
    """Make a table of a document equal to ``new`` without touching equal values."""
    for name in [name for name in old if name not in new]:
        del old[name]
    for name, value in new.items():
        current = old.get(name)
        if isinstance(current, MutableMapping) and isinstance(value, Mapping):
            update(current, value)
        elif current is None or unwrap(current) != value:
            old[name] = value


def same_shape(old: Any, new: Any) -> bool:
    """Return whether two values differ in scalars only, not in keys or lists of tables."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(same_shape(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return old == new or not any(isinstance(item, dict) for item in (*old, *new))
    return not isinstance(old, dict | list) and not isinstance(new, dict | list)


def unwrap(value: Any) -> Any:
    """Return a value of a document as plain Python."""
    return value.unwrap() if hasattr(value, "unwrap") else value


def block(header: str, table: Mapping[str, Any]) -> str:
    """Return a table as text, with its header, such as ``[[rules]]``."""
    return "\n".join([header, *dotted_lines(table), ""])


def dotted_lines(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield one ``dotted.key = value`` for each value of a table."""
    for name, value in table.items():
        key = f"{prefix}{toml_key(name)}"
        if isinstance(value, Mapping) and value:
            yield from dotted_lines(value, f"{key}.")
        else:
            yield f"{key} = {_toml_value(value)}"


def toml_key(name: str) -> str:
    """Return a key with quotes where TOML requires them."""
    return name if _BARE_KEY(name) else tomlkit.item(name).as_string()


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(dotted_lines(value))
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str) and "\\" in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    text: str = tomlkit.item(value).as_string()
    return text
