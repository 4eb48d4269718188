"""Times that people type, in the zone in which their browser shows times."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from pexpolicy.config.plugin_settings import zone_names
from pexpolicy.explain.request_forms import parse_moment

_CLOCK = re.compile(r"(\d?\d)[:.](\d\d)(?:[:.](\d\d))?")
"""A time of day, such as ``6:36`` or ``06.36``."""


def moment(text: str, zone: str = "") -> datetime | None:
    """Return a time in UTC; ``None`` for no text. One without a zone of its own is of ``zone``, a
    name such as ``Europe/Oslo``, or UTC. Raises ``ValueError``.
    """
    text = text.strip()
    if clock := _CLOCK.fullmatch(text):
        hour, *others = filter(None, clock.groups())
        text = ":".join((f"{hour:0>2}", *others))
    return parse_moment(text, datetime.now(UTC), zone_named(zone.strip())) if text else None


def time_of_question(text: str, zone: str = "") -> str | None:
    """Return a time for a dry run; ``None`` for no text.

    One without a zone gets ``zone``, as for ``moment``. Other texts, such as ``now``, stay as they
    are. Raises ``ValueError`` for an unknown zone.
    """
    known = zone_named(zone.strip())
    try:
        at = moment(text, zone)
    except ValueError:
        return text
    return None if at is None else at.astimezone(known).isoformat()


def zone_named(name: str) -> tzinfo:
    """Return a time zone, UTC for no name; raise ``ValueError``."""
    if name and name not in zone_names():
        msg = f"{name!r} is not a time zone that this machine knows: write UTC, or Europe/Oslo"
        raise ValueError(msg)
    return ZoneInfo(name) if name else UTC
