"""Rooms and domains out of the Python files of a Django policy server."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from pexpolicy.cli.importers.python_literals import Literal, literals
from pexpolicy.cli.importers.toml_format import block, quoted
from pexpolicy.cli.importers.toml_merge import (
    ImportFailed,
    MergeSummary,
    plain,
    read_document,
    update,
    with_blocks,
    write_document,
)
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.alias import Alias
from pexpolicy.models.errors import DecisionError

ROOMS = "plugins.rooms.settings.rooms"
DOMAINS = "plugins.domains.settings"
_WORDS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class ImportedValues:
    """What was taken out of a file, where it stood, and what was left behind."""

    source: Literal
    values: Any
    remarks: list[str] = field(default_factory=list)


def find_rooms(path: Path, name: str = "") -> ImportedValues:
    """The dictionary of rooms by alias; raises ``ImportFailed``."""
    source = _chosen(path, name, _are_rooms, "rooms: a dictionary of dictionaries with a name each")
    remarks: list[str] = []
    rooms = _rooms(source.value, remarks)
    return ImportedValues(source, rooms, remarks)


def find_domains(path: Path, name: str = "") -> ImportedValues:
    """The list of domains that may register; raises ``ImportFailed``."""
    source = _chosen(path, name, _are_domains, "domains: a list of texts such as '@example.com'")
    return ImportedValues(source, [str(domain) for domain in source.value])


def _chosen(path: Path, name: str, fits: Callable[[Any], bool], what: str) -> Literal:
    fitting = [literal for literal in literals(path) if fits(literal.value)]
    named = [literal for literal in fitting if literal.name == name] if name else fitting
    if not named:
        called = f" called {name}" if name else ""
        raise ImportFailed(f"{path} holds nothing{called} that looks like {what}")
    if len(named) > 1 and not name:
        names = ", ".join(f"{literal.name} (line {literal.line})" for literal in named)
        raise ImportFailed(f"{path} holds several that could be meant: {names}; choose by --name")
    return named[-1]


def _are_rooms(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(
            isinstance(alias, str) and isinstance(fields, dict) and "name" in fields
            for alias, fields in value.items()
        )
    )


def _are_domains(value: Any) -> bool:
    return (
        isinstance(value, list | tuple | set | frozenset)
        and bool(value)
        and all(isinstance(item, str) and item.startswith("@") for item in value)
    )


def _rooms(written: Mapping[str, Any], remarks: list[str]) -> dict[str, dict[str, Any]]:
    """Each room once, under the first spelling of its alias."""
    rooms: dict[str, dict[str, Any]] = {}
    spelled: dict[Alias, str] = {}
    for alias, fields in written.items():
        room = _room(alias, fields, remarks)
        first = spelled.setdefault(Alias(alias), alias)
        if rooms.setdefault(first, room) != room:
            raise ImportFailed(f"{first} and {alias} are one alias, and lead to two rooms")
        if first != alias:
            remarks.append(f"{alias}: is {first} in another spelling")
    return rooms


def _room(alias: str, fields: Mapping[str, Any], remarks: list[str]) -> dict[str, Any]:
    """The fields that Infinity knows, each in the type that it wants."""
    kind = fields.get("service_type") or "conference"
    service = SERVICE_TYPES.get(kind) if isinstance(kind, str) else None
    if service is None:
        raise ImportFailed(f"{alias}: {kind!r} is none of {', '.join(SERVICE_TYPES)}")
    room: dict[str, Any] = {"name": fields["name"]}
    for name, value in fields.items():
        if name in ("name", "service_type") or value is None:
            continue
        if name not in service.names:
            remarks.append(f"{alias}: {name} is left out: Infinity knows no such field")
        elif (right := corrected(service.hints[name], value)) is None:
            remarks.append(f"{alias}: {name} is left out: it is empty")
        else:
            room[name] = right
    if kind != "conference":
        room["service_type"] = kind
    try:
        made = service(
            **{"service_tag": "", **{k: v for k, v in room.items() if k != "service_type"}}
        )
    except DecisionError as error:
        raise ImportFailed(f"{alias}: {error.refusal.field}: {error.refusal.rule}") from None
    remarks += [f"{alias}: {warning}" for warning in made.warnings]
    return room


def corrected(hint: Any, value: Any) -> Any:
    """Return text that stands for a boolean or a number as what it is; ``None`` for empty text."""
    if not isinstance(value, str):
        return str(value) if "str" in str(hint) and isinstance(value, int) else value
    if "bool" in str(hint) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if "int" in str(hint) and value.isascii() and value.isdigit():
        return int(value)
    return value or None


def merge_rooms(path: Path, rooms: Mapping[str, Mapping[str, Any]]) -> MergeSummary:
    """Bring rooms into a configuration; one with the same alias in another spelling is updated.

    Raises ``ImportFailed``.
    """
    document = read_document(path)
    there = {Alias(key): table for key, table in _table(document, ROOMS).items()}
    brought = {Alias(alias) for alias in rooms}
    changes = MergeSummary(kept=[alias for alias in there if alias not in brought])
    blocks: list[str] = []
    for alias, fields in rooms.items():
        table = there.get(Alias(alias))
        if table is None:
            blocks.append(block(f"[{ROOMS}.{quoted(alias)}]", fields))
            changes.added.append(alias)
        elif plain(table) == fields:
            changes.unchanged.append(alias)
        else:
            update(table, fields)
            changes.changed.append(alias)
    if blocks or changes.changed:
        text = with_blocks(tomlkit.dumps(document), blocks)
        _verify(path, text, rooms)
        write_document(path, text, private=True)
    return changes


def _verify(path: Path, text: str, rooms: Mapping[str, Mapping[str, Any]]) -> None:
    """What is to be written says what was meant; raises ``ImportFailed``."""
    try:
        tables = _table(tomllib.loads(text), ROOMS)
    except tomllib.TOMLDecodeError:
        msg = f"{path}: the rooms stand in one line: write each below a line [{ROOMS}.ALIAS]"
        raise ImportFailed(msg) from None
    written = {Alias(key): room for key, room in tables.items()}
    for alias, fields in rooms.items():
        if written.get(Alias(alias)) != fields:
            raise ImportFailed(f"{path}: {alias} cannot be updated where it stands: delete it")


def merge_domains(path: Path, domains: list[str]) -> MergeSummary:
    """Bring domains into a configuration beside those that are there; raises
    ``ImportFailed``.
    """
    document = read_document(path)
    allowed = _table(document, DOMAINS).get("allowed")
    there = {_domain(entry) for entry in allowed or ()}
    missing = list(dict.fromkeys(entry for entry in domains if _domain(entry) not in there))
    brought = {_domain(entry) for entry in domains}
    changes = MergeSummary(
        added=missing,
        unchanged=[entry for entry in domains if _domain(entry) in there],
        kept=[entry for entry in allowed or () if _domain(entry) not in brought],
    )
    blocks: list[str] = []
    if allowed is None:
        blocks.append(block(f"[{DOMAINS}]", {"allowed": missing}))
    else:
        allowed.extend(missing)
    if missing:
        write_document(path, with_blocks(tomlkit.dumps(document), blocks))
    return changes


def _table(document: Any, dotted: str) -> Any:
    """The table of a document below a dotted key, or an empty one."""
    here = document
    for part in dotted.split("."):
        here = here.get(part, {})
        if not isinstance(here, Mapping):
            raise ImportFailed(f"{dotted} is no table")
    return here


def _domain(entry: str) -> str:
    return entry.strip().removeprefix("@").rstrip(".").lower()
