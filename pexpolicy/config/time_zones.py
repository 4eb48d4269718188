"""Names of the IANA time zone database in settings."""

from __future__ import annotations

from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator

from pexpolicy.text import did_you_mean


@cache
def zone_names() -> frozenset[str]:
    """Return all names. They are read from many files, which takes 5 ms: once, not per rule."""
    return frozenset(available_timezones())


def _known(zone: str) -> str:
    if zone not in zone_names():
        guess = did_you_mean(zone, zone_names()) or "; write one such as 'Europe/Oslo'"
        msg = f"there is no time zone {zone!r}{guess}"
        raise ValueError(msg)
    return zone


TimeZone = Annotated[str, AfterValidator(_known)]
"""A name such as ``Europe/Oslo``."""
