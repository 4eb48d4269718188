"""Moments: times with a zone, for dry runs."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from pexpolicy.config.time_zones import zone_names


def parse_moment(text: str) -> datetime:
    """Parse ``2026-12-24 22:00 Europe/Oslo`` or ``2026-12-24 22:00+01:00``.

    Raise ``ValueError`` for other text, and for a time without a zone.
    """
    written, _, zone = text.strip().rpartition(" ")
    named = zone in zone_names()
    try:
        found = datetime.fromisoformat(written.strip() if named else text.strip())
        if named and found.tzinfo is None:
            # By way of UTC, as a time that clocks skip is the one that they show then.
            found = found.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).astimezone(ZoneInfo(zone))
    except ValueError:
        msg = f"{text!r} is not a time: write 2026-12-24 22:00 Europe/Oslo, or +01:00 for the zone"
        raise ValueError(msg) from None
    if found.tzinfo is None:
        msg = f"{text!r} has no zone: write {text} Europe/Oslo, or an offset such as +01:00"
        raise ValueError(msg)
    return found
