"""Rooms of Infinity, read by its Management API, as rooms of the plugin ``rooms``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pexpolicy.cli.common import EX_TEMPFAIL, build, refuse
from pexpolicy.config.files import write_own
from pexpolicy.endpoints.object_names import NAMED_OBJECTS
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import contract_of
from pexpolicy_importers.csv_files import rooms_csv
from pexpolicy_importers.toml_merge import ImportFailed, block

THEIRS = {name: name.removesuffix("_name") for name in NAMED_OBJECTS}
"""The field in Infinity of each name in a room; it has an address."""
RATES = ("max_callrate_in", "max_callrate_out")
"""In kbit/s in Infinity, and in bit/s here."""


def import_rooms(config: Path, into: Path) -> tuple[int, list[str]]:
    """Write the rooms of the source that ``[infinity] source`` names to a new file of mode 0600.

    Return their number, and what they lack. Raise ``ImportFailed``.
    """
    if into.exists() or into.suffix not in (".csv", ".toml"):
        raise ImportFailed(f"{into} is there already, or neither .csv nor .toml: name a new file")
    policy = build(config)
    policy.close()
    source = next((one.source for one in policy.all_names if one.table == ("infinity",)), None)
    if not hasattr(source, "objects"):
        raise ImportFailed(f'{config}: [infinity] source names no source of driver = "infinity"')
    from pexpolicy_rooms.room_files import WrittenRoom  # noqa: PLC0415 - another package
    from pexpolicy_sources import SourceError, infinity  # noqa: PLC0415 - the same

    rooms, remarks = list[WrittenRoom](), list[str]()
    try:
        names, rows, listed = asyncio.run(_read(source, infinity.RESOURCES))
    except SourceError as error:
        refuse(f"{config}: the Management API: {error}", EX_TEMPFAIL)
    for row, aliases in infinity.with_aliases(rows, listed):
        try:
            rooms.append(WrittenRoom(("rooms", len(rooms)), aliases, _fields(row, names, aliases)))
            if row.get("automatic_participants"):
                remarks.append(f"the room {row.get('name')}: add its automatic participants")
        except ValueError as error:
            remarks.append(f"the room {row.get('name')} is left out: {error}")
    tables = ({"aliases": room.aliases, **room.fields} for room in rooms)
    toml = "\n".join(block("[[rooms]]", one) for one in tables)
    try:
        write_own(into, (toml if into.suffix == ".toml" else rooms_csv(rooms)).encode())
    except OSError as error:
        raise ImportFailed(f"{into} cannot be written: {error.strerror}") from None
    return len(rooms), remarks


async def _read(source: Any, resources: Mapping[str, str]) -> tuple[dict[str, Any], Any, Any]:
    """Return the names of objects by their address, the rooms and the aliases."""
    async with source:
        rows = await source.objects("conference")
        used = {resources[NAMED_OBJECTS[n]] for n in THEIRS if any(r.get(THEIRS[n]) for r in rows)}
        objects = [one for name in sorted(used) for one in await source.objects(name)]
        names = {str(one.get("resource_uri")): one.get("name") for one in objects}
        return names, rows, await source.objects("conference_alias")


def _fields(row: Mapping[str, Any], names: Mapping[str, Any], aliases: list[str]) -> dict[str, Any]:
    """Return the fields of a room; raise ``ValueError`` for one that it would lose."""
    if not aliases:
        raise ValueError("it has no alias")
    written = row.get("service_type") or "conference"
    if (kind := SERVICE_TYPES.get(written)) is None:
        raise ValueError(f"its type is {written}")
    known = contract_of(kind).names
    fields = {name: row.get(name) for name in known if not isinstance(row.get(name), list | dict)}
    fields |= {name: row[name] * 1000 for name in RATES if isinstance(row.get(name), int)}
    fields |= {"service_tag": row.get("tag"), "service_type": written}
    fields |= {"view": row.get("host_view")} if "host_view" not in known else {}
    for ours, theirs in THEIRS.items():
        if value := row.get(theirs):
            if (name := names.get(str(value))) is None or ours not in known:
                raise ValueError(f"its {theirs} is unknown")
            fields[ours] = name
    fields = {n: fields[n] for n in sorted(known & fields.keys()) if fields[n] not in (None, "")}
    kind.from_result({"service_tag": "", **fields})  # raises DecisionError
    return fields
