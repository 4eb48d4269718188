"""Importer of rooms and domains from the Python files of a Django policy server."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pexpolicy import Alias, DecisionError
from pexpolicy.config.csv_tables import TableError, read_text
from pexpolicy.endpoints.base import PROTECTIONS
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import contract_of
from pexpolicy_importers.rules_csv import plugin_problems
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
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class ImportedValues:
    """A literal that a Python file assigns to a name, and remarks on its conversion."""

    name: str
    line: int
    values: Any
    remarks: list[str] = field(default_factory=list)


def find_rooms(path: Path) -> ImportedValues:
    """Return the dictionary of rooms by alias; raise ``ImportFailed``."""
    found = _find(path, _are_rooms, "rooms: a dictionary of dictionaries with a name each")
    remarks = found.remarks
    return ImportedValues(found.name, found.line, _rooms(found.values, remarks), remarks)


def find_domains(path: Path) -> ImportedValues:
    """Return the list of domains that may register; raise ``ImportFailed``."""
    found = _find(path, _are_domains, "domains: a list of texts such as '@example.com'")
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
    return ImportedValues(found.name, found.line, listed, found.remarks)


def _find(path: Path, fits: Callable[[Any], bool], kind: str) -> ImportedValues:
    tree = _parsed(path)
    literals = sorted(_assignments(tree), key=lambda values: values.line)
    found = [literal for literal in literals if fits(literal.values)]
    if not found:
        if path.suffix.lower() == ".csv":
            kind += "; a CSV file of rooms needs no import: name it as csv of the plugin rooms"
        calculated = "".join(f"; {text}" for text in _calculated(tree))
        raise ImportFailed(f"{path} holds nothing that looks like {kind}{calculated}")
    if len(found) > 1:
        names = ", ".join(f"{values.name} (line {values.line})" for values in found)
        raise ImportFailed(f"{path} holds several candidates: {names}; leave one there")
    for line in _later_changes(tree, found[-1]):
        found[-1].remarks.append(f"line {line} changes {found[-1].name}: this is not imported")
    return found[-1]


def _parsed(path: Path) -> ast.Module:
    """Parse a file, which is never executed; raise ``ImportFailed``."""
    try:
        return ast.parse(read_text(path), path.name)
    except TableError as error:
        raise ImportFailed(str(error)) from None
    except (SyntaxError, ValueError) as error:
        raise ImportFailed(f"{path} cannot be read as Python: {error}") from None
    except (MemoryError, RecursionError):
        text = "it is nested too deeply"
        raise ImportFailed(f"{path} cannot be read as Python: {text}") from None


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


def _calculated(tree: ast.AST) -> Iterator[str]:
    """Yield a text for each dictionary or list whose values are not all written in it."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Dict | ast.List):
            continue
        target = node.targets[0]
        if not isinstance(target, ast.Name):
            continue
        kinds = ast.Name | ast.Call | ast.JoinedStr | ast.BinOp | ast.IfExp | ast.Starred
        lines = [n.lineno for n in ast.walk(node.value) if isinstance(n, kinds)]
        if lines:
            yield (
                f"{target.id} (line {node.lineno}) is calculated in line {min(lines)}: write the "
                "value there, as the file is not executed"
            )


def _later_changes(tree: ast.AST, found: ImportedValues) -> list[int]:
    """Return the lines that change a dictionary or list, or what it holds, or replace it."""
    lines = set()
    for node in ast.walk(tree):
        targets: Sequence[ast.AST] = ()
        match node:
            case ast.AugAssign(target=one) | ast.AnnAssign(target=one):
                targets = [one]
            case ast.Assign(targets=several) | ast.Delete(targets=several):
                targets = several
            case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in _CHANGING:
                targets = [value]
            case _:
                pass
        for changed in targets:
            while isinstance(changed, ast.Subscript):
                changed = changed.value  # noqa: PLW2901 - what is changed in the end
            if isinstance(changed, ast.Name) and changed.id == found.name:
                lines.add(changed.lineno)
    return sorted(line for line in lines if line > found.line)


_CHANGING = (
    *("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove"),
    *("setdefault", "update"),
)


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
        and all(isinstance(item, str) for item in value)
        and any(item.startswith(("@", "*@")) for item in value)
    )


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
    known = contract_of(service).hints
    room: dict[str, Any] = {"name": _converted("str", fields["name"])}
    if not Alias(alias).user:
        raise ImportFailed(f"{alias!r} is not an alias")
    others = _other_aliases(alias, fields.get("aliases"))
    for name, value in fields.items():
        if name in ("name", "service_type") or value is None or (others and name == "aliases"):
            continue
        if name not in known:
            remarks.append(f"{alias}: {name} is left out: Infinity knows no such field")
        elif (converted := _converted(str(known[name]), value)) is None:
            remarks.append(f"{alias}: {name} is left out: it is empty")
        else:
            room[name] = converted
    try:
        decision = service(**{"service_tag": "", **room})
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


def _converted(hint: str, value: Any) -> Any:
    """Return the value in the type of the field, without blanks around a text; ``None`` for an
    empty one.
    """
    value = value.strip() if isinstance(value, str) else _plain(value)
    if not isinstance(value, str):
        if isinstance(value, float) and value.is_integer() and "int" in hint:
            return int(value)
        return str(value) if "str" in hint and isinstance(value, int) else value
    if "bool" in hint and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    if "int" in hint and value.isascii() and value.isdigit():
        return int(value)
    return value or None


def _plain(value: Any) -> Any:
    """Return a value as TOML can hold it: with lists instead of tuples, and without ``None``."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items() if part is not None}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


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
    imported = {_domain(entry) for entry in domains}
    missing = list(dict.fromkeys(entry for entry in domains if _domain(entry) not in listed))
    blocks: list[str] = []
    changes = MergeSummary(
        added=missing,
        unchanged=[entry for entry in domains if _domain(entry) in listed],
        kept=[entry for entry in allowed or () if _domain(entry) not in imported],
    )
    if allowed is None:
        blocks.append(block(f"[{DOMAINS}]", {"allowed": missing}))
    else:
        allowed.extend(missing)
    if missing:
        write_document(path, document, blocks)
    return changes


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _domain(entry: str) -> str:
    return entry.strip().removeprefix("@").rstrip(".").lower()
