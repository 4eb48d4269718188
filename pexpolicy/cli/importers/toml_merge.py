"""Updating a TOML file: what is the same stays as it stands, comments included."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from pexpolicy.config.encodings import EncodingError, decode_text


class ImportFailed(ValueError):
    """Something cannot be brought in; the text says what and where."""


@dataclass(slots=True)
class MergeSummary:
    """What became of everything that was brought in, by name."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """What was there and was not brought in."""

    def __str__(self) -> str:
        counts = {
            "added": self.added,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "kept though not in the file": self.kept,
        }
        told = [f"{len(names)} {what}" for what, names in counts.items() if names]
        return ", ".join(told) or "nothing to do"


def read_document(path: Path) -> tomlkit.TOMLDocument:
    """The file with its comments, or an empty one; raises ``ImportFailed``."""
    try:
        return (
            tomlkit.parse(decode_text(path.read_bytes())) if path.exists() else tomlkit.document()
        )
    except OSError as error:
        raise ImportFailed(f"{path} cannot be read: {error.strerror}") from None
    except (EncodingError, TOMLKitError) as error:
        raise ImportFailed(f"{path} cannot be read: {error}") from None


def write_document(path: Path, text: str, *, private: bool = False) -> None:
    """Replace the file in one step, with the rights that it has; a symbolic link stays one.

    Only its owner can read a new file that is ``private``.

    Raises ``ImportFailed``, and then the file is as it was.
    """
    try:
        tomllib.loads(text)
        place = path.resolve()
        beside = place.with_name(f".{place.name}.new")
        beside.unlink(missing_ok=True)
        if place.exists():
            beside.touch(0o600, exist_ok=False)
            _share_rights(place, beside)
        elif private:
            beside.touch(0o600, exist_ok=False)
        beside.write_text(text, "utf-8")
        os.replace(beside, place)  # noqa: PTH105 - it replaces on each system
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ImportFailed(f"{path} cannot be written: {error}") from None


def _share_rights(old: Path, new: Path) -> None:
    """Let those read the new file who may read the old one, and nobody else: it may hold PINs."""
    seen = old.stat()
    with suppress(PermissionError):
        os.chown(new, seen.st_uid, seen.st_gid)
    new.chmod(stat.S_IMODE(seen.st_mode))


def update(old: MutableMapping[str, Any], new: Mapping[str, Any]) -> None:
    """Make a table of a document equal to another one, touching only what differs."""
    for name in [name for name in old if name not in new]:
        del old[name]
    for name, value in new.items():
        here = old.get(name)
        if isinstance(here, MutableMapping) and isinstance(value, Mapping):
            update(here, value)
        elif here is None or plain(here) != value:
            old[name] = value


def same_shape(old: Any, new: Any) -> bool:
    """True where two values differ in single values only, and in no key and no list of tables."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(same_shape(old[key], new[key]) for key in old)
    if isinstance(old, dict | list) or isinstance(new, dict | list):
        tables = [*(old if isinstance(old, list) else ()), *(new if isinstance(new, list) else ())]
        return type(old) is type(new) and (
            old == new or not any(isinstance(item, dict) for item in tables)
        )
    return True


def plain(value: Any) -> Any:
    """A value of a document without what only its writing needs."""
    return value.unwrap() if hasattr(value, "unwrap") else value


def with_blocks(text: str, blocks: list[str]) -> str:
    """The text of a file with further tables behind it."""
    if not blocks:
        return text
    return (
        "\n\n".join(filter(None, [text.rstrip("\n"), *(part.rstrip("\n") for part in blocks)]))
        + "\n"
    )
