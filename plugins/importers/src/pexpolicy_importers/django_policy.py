"""Importer of rooms and domains from the Python files of a Django policy server."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pexpolicy import Alias, DecisionError
from pexpolicy.config.csv_tables import read_text
from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import contract_of
from pexpolicy.rows import RowValues
from pexpolicy_importers.csv_files import plugin_problems
from pexpolicy_importers.toml_merge import (
    ImportFailed,
    MergeSummary,
    block,
    read_document,
    table_at,
    toml_key,
    unwrap,
    update,
    write_document,
)

ROOMS = "plugins.rooms.settings.rooms"
DOMAINS = "plugins.domains.settings"


@dataclass(frozen=True, slots=True)
class ImportedValues:
    """A literal that a Python file assigns to a name, and remarks on its conversion."""

    name: str
    line: int
    values: Any
    remarks: list[str] = field(default_factory=list)


def find_rooms(path: Path) -> ImportedValues:
    """Return the dictionary of rooms by alias; raise ``ImportFailed`` and ``TableError``."""
    found = _find(path, _are_rooms, "rooms: a dictionary of dictionaries with a name each")
    return replace(found, values=_rooms(found.values, found.remarks))


def find_domains(path: Path) -> ImportedValues:
    """Return the list of domains that may register; raise ``ImportFailed`` and ``TableError``."""
    kind = "domains: a list of texts such as '@example.com'"
    found = _find(path, _are_domains, kind)
    domains: dict[str, str] = {}
    for item in found.values:
        domain = item.strip().removeprefix("*") if "@" in item else item.strip()
        domains.setdefault(_domain(domain), domain)
        if "@" not in item and not domain.startswith("*"):
            found.remarks.append(
                f"{domain} has no @: that server also admitted what ends so, such as "
                f"a@sub.{domain}; write *.{domain} as well if this is meant"
            )
    listed = list(domains.values())
    if problems := plugin_problems("domains", {"allowed": listed}):
        raise ImportFailed("\n".join(f"{path}: {found.name}: {one.text}" for one in problems))
    return replace(found, values=listed)


def _find(path: Path, fits: Callable[[Any], bool], kind: str) -> ImportedValues:
    text = read_text(path)
    tree = _parsed(path, text)
    literals = sorted(_assignments(tree), key=lambda values: values.line)
    candidates = [literal for literal in literals if fits(literal.values)]
    if not candidates:
        why = "values that are calculated are not read, as the file is not executed"
        raise ImportFailed(f"{path} holds nothing that looks like {kind}; {why}")
    if len(candidates) > 1:
        names = ", ".join(f"{values.name} (line {values.line})" for values in candidates)
        raise ImportFailed(f"{path} holds several candidates: {names}; leave one there")
    found = candidates[-1]
    for line in sorted(set(_changes(tree, found.name))):
        if line > found.line:
            found.remarks.append(f"line {line} changes {found.name}: this is not imported")
    return found


def _parsed(path: Path, text: str) -> ast.Module:
    """Parse a file, which is never executed; raise ``ImportFailed``."""
    try:
        return ast.parse(text, path.name)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        deep = isinstance(error, MemoryError | RecursionError)
        why = "it is nested too deeply" if deep else error
        raise ImportFailed(f"{path} is not valid Python: {why}") from None


def _assignments(tree: ast.AST) -> Iterator[ImportedValues]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets, literal = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, literal = [node.target], node.value
        else:
            continue
        try:
            value = ast.literal_eval(literal)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                yield ImportedValues(target.id, node.lineno, value)


def _changes(tree: ast.AST, name: str) -> Iterator[int]:
    """Yield the lines that assign, delete or call a method of a variable or of what it holds."""
    for node in ast.walk(tree):
        targets: Sequence[ast.AST] = ()
        match node:
            case ast.AugAssign(target=one) | ast.Expr(value=ast.Call(func=ast.Attribute() as one)):
                targets = [one]
            case ast.Assign(targets=several) | ast.Delete(targets=several):
                targets = several
            case _:
                pass
        for part in (part for target in targets for part in ast.walk(target)):
            if isinstance(part, ast.Name) and part.id == name:
                yield part.lineno


def _are_rooms(value: Any) -> bool:
    rooms = [*value.values()] if isinstance(value, dict) and _are_texts([*value]) else []
    return bool(rooms) and all(isinstance(one, dict) and "name" in one for one in rooms)


def _are_domains(value: Any) -> bool:
    return _are_texts(value) and any(item.startswith(("@", "*@")) for item in value)


def _are_texts(value: Any) -> bool:
    is_list = isinstance(value, list | tuple | set | frozenset)
    return is_list and all(isinstance(item, str) for item in value)


def _rooms(source: Mapping[str, Any], remarks: list[str]) -> dict[str, dict[str, Any]]:
    """Return each room once, under the first spelling of its alias."""
    rooms: dict[str, dict[str, Any]] = {}
    spellings: dict[Alias, str] = {}
    problems: list[str] = []
    for alias, fields in source.items():
        try:
            room = _room(alias, fields, remarks)
        except ImportFailed as error:
            problems.append(str(error))
            continue
        first = spellings.setdefault(Alias(alias), alias)
        if rooms.setdefault(first, room) != room:
            problems.append(f"{first} and {alias} are the same alias, but lead to two rooms")
        elif first != alias:
            remarks.append(f"{alias}: is {first} in another spelling")
    if problems:
        raise ImportFailed("\n".join(problems))
    return rooms


def _room(alias: str, fields: Mapping[str, Any], remarks: list[str]) -> dict[str, Any]:
    """Return the fields that Infinity knows, with the types that it requires."""
    kind = fields.get("service_type") or "conference"
    service = SERVICE_TYPES.get(kind) if isinstance(kind, str) else None
    if service is None:
        raise ImportFailed(f"{alias}: {kind!r} is not one of {', '.join(SERVICE_TYPES)}")
    if not Alias(alias).user:
        raise ImportFailed(f"{alias!r} is not an alias")
    known = contract_of(service).hints
    others = _other_aliases(alias, fields.get("aliases"))
    room: dict[str, Any] = {}
    for name, value in {"name": fields["name"], **fields}.items():
        if name == "service_type" or value is None or (others and name == "aliases"):
            continue
        if name not in known:
            remarks.append(f"{alias}: {name} is left out: Infinity knows no such field")
        elif (plain := _plain(value)) == "":
            remarks.append(f"{alias}: {name} is left out: it is empty")
        else:
            room[name] = plain
    room = RowValues(service).of(room)
    try:
        decision = service.from_result({"service_tag": "", **room}, strict=True)
    except DecisionError as error:
        raise ImportFailed(f"{alias}: {error.refusal.field}: {error.refusal.rule}") from None
    remarks += [f"{alias}: {warning}" for warning in decision.warnings]
    if others:
        room["aliases"] = others
    return room if kind == "conference" else {**room, "service_type": kind}


def _other_aliases(alias: str, written: Any) -> list[str]:
    """Return further aliases of a room, which are no field of Infinity, if it has any."""
    aliases = written.split() if isinstance(written, str) else written
    if not isinstance(aliases, list | tuple) or not all(isinstance(a, str) for a in aliases):
        return []
    return [
        other.strip() for other in aliases if Alias(other).user and Alias(other) != Alias(alias)
    ]


def _plain(value: Any) -> Any:
    """Return a value as TOML can hold it, numbers of a room as text: ``RowValues`` knows types."""
    if isinstance(value, dict):
        return {name: part for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_plain(part) if isinstance(part, dict) else part for part in value]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def merge_rooms(path: Path, rooms: Mapping[str, Mapping[str, Any]]) -> MergeSummary:
    """Add rooms to a configuration and update those whose alias it has, in any spelling.

    Raise ``ImportFailed``.
    """
    document = read_document(path)
    tables = {Alias(key): table for key, table in table_at(document, ROOMS).items()}
    imported = {Alias(alias) for alias in rooms}
    changes = MergeSummary(kept=[alias for alias in tables if alias not in imported])
    blocks: list[str] = []
    for alias, fields in rooms.items():
        table = tables.get(Alias(alias))
        if table is None:
            blocks.append(block(f"[{ROOMS}.{toml_key(alias)}]", fields))
            changes.added.append(alias)
        elif not isinstance(table, MutableMapping):
            raise ImportFailed(f"{path}: {alias} is not a table")
        elif unwrap(table) == fields:
            changes.unchanged.append(alias)
        else:
            lost = [name for name in PROTECTIONS if name in table and name not in fields]
            changes.remarks += [f"{alias}: {name} is removed: it is not imported" for name in lost]
            update(table, fields)
            changes.changed.append(alias)
    if blocks or changes.changed:
        write_document(path, document, blocks, private=True)
    return changes


def merge_domains(path: Path, domains: list[str]) -> MergeSummary:
    """Add the domains that a configuration does not list yet; raise ``ImportFailed``."""
    document = read_document(path)
    allowed = table_at(document, DOMAINS).get("allowed")
    if not (allowed is None or _are_texts(allowed)):
        raise ImportFailed(f"{path}: {DOMAINS}.allowed is not a list of domains")
    listed = {_domain(entry) for entry in allowed or ()}
    imported = {_domain(entry): entry for entry in domains}
    changes = MergeSummary(
        added=[entry for domain, entry in imported.items() if domain not in listed],
        unchanged=[entry for domain, entry in imported.items() if domain in listed],
        kept=[entry for entry in allowed or () if _domain(entry) not in imported],
    )
    if allowed is None:
        write_document(path, document, [block(f"[{DOMAINS}]", {"allowed": changes.added})])
    elif changes.added:
        allowed.extend(changes.added)
        write_document(path, document)
    return changes


def _domain(entry: str) -> str:
    return entry.strip().removeprefix("@").rstrip(".").lower()
