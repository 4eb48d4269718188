"""Times that people type, in the zone in which their browser shows times."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pexpolicy.cli.audit.filters import parse_time


def moment(text: str, zone: str = "") -> datetime | None:
    """Return a time in UTC; ``None`` for no text. One without a zone of its own is of ``zone``, a
    name such as ``Europe/Oslo``, or UTC. Raises ``ValueError``.
    """
    text = text.strip()
    return parse_time(text, datetime.now(UTC), zone=_zone(zone.strip())) if text else None


def _zone(name: str) -> tzinfo:
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        msg = f"{name!r} is not a time zone that this machine knows: write UTC, or Europe/Oslo"
        raise ValueError(msg) from None
