"""Audit lines of calls, as the server writes them, at a chosen time."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EPOCH = 1_700_046_400_000
"""Milliseconds since 1970 of the first line: 15 November 2023, before each line of a server."""


def decision_id(at: int, number: int) -> str:
    """Return an identifier of version 7 for a time in milliseconds."""
    time = f"{at:012x}"
    return f"{time[:8]}-{time[8:]}-7000-8000-{number:012x}"


def line(number: int, at: int | None = None, **fields: Any) -> dict[str, Any]:
    """Return the line of a call; by default one each second. ``request`` is merged."""
    at = EPOCH + 1000 * number if at is None else at
    moment = datetime.fromtimestamp(at / 1000, UTC)
    request: Mapping[str, Any] = fields.pop("request", {})
    return {
        "timestamp": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "event": "decision",
        "decision_id": decision_id(at, number),
        "endpoint": "service_configuration",
        "peer": "10.44.7.5",
        "request": {
            "local_alias": f"sip:room{number}@example.com",
            "remote_alias": "sip:alice@example.com",
            "node_ip": "10.44.7.5",
            **request,
        },
        "steps": [{"plugin": "rooms", "outcome": "decided", "ms": 0.1}],
        "decided_by": "rooms",
        "reason": None,
        "action": "continue",
        "status": 200,
        "sent": {"name": f"Room {number}", "service_type": "conference"},
        "ms": 0.2,
        "policy_hash": "752e6e0f1aa590f0",
        "boot_id": "5c1f04ad27a0b35e",
        "seq": number + 1,
        "hash": "0" * 64,
        **fields,
    }


def encoded(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """Return lines as the bytes of an audit file."""
    return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in lines)


def append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append lines to an audit file."""
    with path.open("ab") as file:
        file.write(encoded(lines))
