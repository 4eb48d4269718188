"""Importer of subnets and their locations from the maps of other policy servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import orjson
import tomlkit

from pexpolicy.config.csv_tables import read_text
from pexpolicy.models.subnets import SubnetError, read_subnet
from pexpolicy_importers.toml_merge import (
    ImportFailed,
    MergeSummary,
    block,
    read_document,
    table_at,
    unwrap,
    update,
    write_document,
)

SETTINGS = "plugins.locations.settings"
Network = IPv4Network | IPv6Network


@dataclass(slots=True)
class SubnetMap:
    """Entries by subnet as the plugin ``locations`` has them, other settings, and remarks."""

    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def read_map(path: Path) -> SubnetMap:
    """Return the map in a JSON file; raise ``ImportFailed`` and ``TableError``.

    It has ``mappings`` of ``subnet``, ``location``, ``overflow_locations``, ``description``.
    """
    text = read_text(path)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ImportFailed(f"{path} is not valid JSON: {error}") from None
    mappings = document.get("mappings") if isinstance(document, dict) else None
    if not isinstance(mappings, list) or not all(isinstance(row, dict) for row in mappings):
        raise ImportFailed(f"{path} has no list of mappings, each with subnet and location")
    found = SubnetMap()
    for number, row in enumerate(mappings):
        place = f"{path.name} mappings[{number}]"
        entry = {"location": row.get("location")}
        entry["overflow_locations"] = row.get("overflow_locations") or []
        if row.get("description"):
            entry["description"] = row["description"]
        _check(place, entry)
        network = _network(place, row.get("subnet"), found.remarks)
        if str(network) in found.entries:
            found.remarks.append(f"{place}: {network} is left out: an earlier entry decides")
        else:
            found.entries[str(network)] = {"subnet": str(network), **entry}
    if not found.entries:
        raise ImportFailed(f"{path} has no subnets")
    if default := document.get("default_location"):
        overflow = document.get("default_overflow_locations") or []
        _check(f"{path.name} default_location", {"location": default, "overflow": overflow})
        found.settings = {"default": default, "default_overflow": overflow}
    if not found.entries:
        raise ImportFailed(f"{path} has no subnets")
    return found


def _network(place: str, written: Any, remarks: list[str]) -> Network:
    try:
        return read_subnet(str(written))
    except SubnetError as error:
        try:
            network = read_subnet(str(written), strict=False)
        except SubnetError:
            raise ImportFailed(f"{place}: {error}") from None
    remarks.append(f"{place}: {written} has host bits set: it is {network}")
    return network


def _check(place: str, entry: Mapping[str, Any]) -> None:
    """Raise ``ImportFailed`` for a location that is no text, or overflow that is no list."""
    for name, value in entry.items():
        is_list = name.startswith("overflow")
        texts = value if isinstance(value, list) else [value]
        is_valid = all(isinstance(text, str) and text.strip() for text in texts)
        if isinstance(value, list) is not is_list or not is_valid:
            what = "list of texts" if is_list else "text"
            raise ImportFailed(f"{place}: {name} is no {what}, or empty")


def merge_map(path: Path, found: SubnetMap) -> MergeSummary:
    """Add subnets to a configuration and update those that it has; raise ``ImportFailed``.

    Other settings are added where they are missing.
    """
    document = read_document(path)
    settings = table_at(document, SETTINGS)
    listed = settings.get("subnets", [])
    changes = MergeSummary()
    present = dict(_by_subnet(path, listed))
    changes.kept = [name for name in present if name not in found.entries]
    added: list[dict[str, Any]] = []
    for subnet, entry in found.entries.items():
        table = present.get(subnet)
        if table is None:
            added.append(entry)
            changes.added.append(subnet)
        elif unwrap(table) == entry:
            changes.unchanged.append(subnet)
        else:
            update(table, {**entry, "subnet": unwrap(table)["subnet"]})
            changes.changed.append(subnet)
    missing = {name: value for name, value in found.settings.items() if name not in settings}
    blocks: list[str] = []
    if missing and settings:
        for name, value in missing.items():
            settings[name] = value
    elif missing:
        blocks.append(block(f"[{SETTINGS}]", missing))
    if isinstance(listed, tomlkit.items.Array):
        for entry in added:
            inline = tomlkit.inline_table()
            inline.update(entry)
            listed.add_line(inline)
    else:
        blocks += [block(f"[[{SETTINGS}.subnets]]", entry) for entry in added]
    if missing or added or changes.changed:
        write_document(path, document, blocks)
    return changes


def _by_subnet(path: Path, tables: Any) -> Iterator[tuple[str, Any]]:
    """Yield the entries for all calls by subnet."""
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise ImportFailed(f"{path}: write each subnet below a line [[{SETTINGS}.subnets]]")
    for table in tables:
        entry = unwrap(table)
        if entry.get("node_locations") or entry.get("protocols"):
            continue
        try:
            yield str(read_subnet(str(entry.get("subnet")), strict=False)), table
        except SubnetError:
            continue
