"""Names of the IANA time zone database in settings."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator

from pexpolicy.text import did_you_mean

_ADVICE = "; write one with a city, such as 'Europe/Oslo'"
_SHORT = re.compile(r"[A-Z]{2,5}|(?:GMT|UTC)?[+-][\d:.]+|.*\b[Tt]ime", re.DOTALL)
"""Abbreviations, offsets and names of Windows, which look like other zones."""


@cache
def zone_names() -> frozenset[str]:
    """Return all names. They are read from many files, which takes 5 ms: once, not per rule."""
    return frozenset(available_timezones())


def _known(zone: str) -> str:
    known = zone_names()
    if zone in known:
        return zone
    city = "_".join(zone.split()).lower()
    meant = sorted(name for name in known if name.lower() == city)
    # Etc/GMT+1 is an hour behind UTC.
    cities = (name for name in known if not name.startswith("Etc/"))
    meant += sorted(name for name in cities if name.lower().rpartition("/")[2] == city)
    guess = f"; did you mean {meant[0]!r}?" if meant else ""
    if not guess and not _SHORT.fullmatch(zone):
        guess = did_you_mean(zone, known)
    msg = f"there is no time zone {zone!r}{guess or _ADVICE}"
    raise ValueError(msg)


TimeZone = Annotated[str, AfterValidator(_known)]
"""A name such as ``Europe/Oslo``."""
