"""Rooms of Infinity, read by its Management API, as rooms of the plugin ``rooms``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pexpolicy.cli.common import EX_TEMPFAIL, build, refuse
from pexpolicy.config.files import write_own
from pexpolicy.endpoints.object_names import NAMED_OBJECTS
from pexpolicy.endpoints.service_configuration import SERVICE_TYPES
from pexpolicy.models.contract import contract_of
from pexpolicy_importers.csv_files import rooms_csv
from pexpolicy_importers.toml_merge import ImportFailed, block

ROOMS = ("conference", "conference_alias")
THEIRS = {"service_tag": "tag", "view": "host_view"}
THEIRS |= {name: name.removesuffix("_name") for name in NAMED_OBJECTS}
"""What a field is called in Infinity; one that names an object has its address there."""
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
    from pexpolicy_sources import infinity  # noqa: PLC0415 - the same

    read, problems = asyncio.run(_read(source, (*ROOMS, *infinity.RESOURCES.values())))
    if lost := [problems[one] for one in ROOMS if one in problems]:
        refuse(f"{config}: the Management API: {lost[0]}", EX_TEMPFAIL)
    objects = [one for listed in read.values() for one in listed]
    names = {str(one.get("resource_uri")): one.get("name") for one in objects}
    rooms, remarks = list[WrittenRoom](), list[str]()
    for row, aliases in infinity.with_aliases(*(read[one] for one in ROOMS)):
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


async def _read(source: Any, resources: Iterable[str]) -> Any:
    async with source:
        return await source.read(resources)


def _fields(row: Mapping[str, Any], names: Mapping[str, Any], aliases: list[str]) -> dict[str, Any]:
    """Return the fields of a room; raise ``ValueError`` for one that it would lose."""
    if not aliases:
        raise ValueError("it has no alias")
    written = row.get("service_type") or "conference"
    if (kind := SERVICE_TYPES.get(written)) is None:
        raise ValueError(f"its type is {written}")
    fields: dict[str, Any] = {"service_type": written}
    for name in sorted(contract_of(kind).names - fields.keys()):
        value = row.get(THEIRS.get(name, name))
        if value and name in NAMED_OBJECTS and (value := names.get(str(value))) is None:
            raise ValueError(f"its {THEIRS[name]} is unknown")
        if value not in (None, "") and not isinstance(value, list | dict):
            fields[name] = value * 1000 if name in RATES and isinstance(value, int) else value
    kind.from_result({"service_tag": "", **fields})  # raises DecisionError
    return fields
