"""The time in which a room exists."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, NamedTuple

from pexpolicy import Key, Problem
from pexpolicy.text import brief

_FORMS = "2026-12-24, 2026-12-24T18:00 or 2026-12-24T18:00+01:00"

_FIRST = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()


class Validity(NamedTuple):
    """From the first moment up to, excluding, the second; in seconds since 1970."""

    begins: float = float("-inf")
    ends: float = float("inf")

    def holds(self, now: float) -> bool:
        """Return whether a time is within."""
        return self.begins <= now < self.ends

    def __str__(self) -> str:
        begins = f"from {moment(self.begins)}" if self.begins > ALWAYS.begins else ""
        ends = f"until {moment(self.ends)}" if self.ends < ALWAYS.ends else ""
        return f"{begins} {ends}".strip()


ALWAYS = Validity()


def moment(seconds: float) -> str:
    """Return a time, in seconds since 1970, as text in UTC."""
    # In UTC, the first and the last day of some zones are in no year.
    known = min(max(seconds, _FIRST), _LAST)
    return f"{datetime.fromtimestamp(known, UTC):%Y-%m-%d %H:%M} UTC"


def validity_of(
    key: Key, fields: dict[str, Any], zone: tzinfo | None, problems: list[Problem]
) -> Validity:
    """Remove ``valid_from`` and ``valid_until`` from the fields of a room, and return the time.

    A day without a time is a whole day, the last one included. Times without an offset are in
    ``zone``. Databases write a day of the year 1 or 9999 for no limit.
    """
    found = dict(_moments(key, fields, zone, problems))
    if not found:
        return ALWAYS
    validity = Validity(**found)
    if validity.ends <= validity.begins:
        problems.append(Problem((*key, "valid_until"), "is not after valid_from"))
    return validity


def _moments(
    key: Key, fields: dict[str, Any], zone: tzinfo | None, problems: list[Problem]
) -> Iterable[tuple[str, float]]:
    for name, end, days, unlimited in (
        ("valid_from", "begins", 0, MINYEAR),
        ("valid_until", "ends", 1, MAXYEAR),
    ):
        if name not in fields:
            continue
        written = fields.pop(name)
        moment = _moment(written, days)
        if moment is None:
            text = f"{brief(written)} is not a day or a time; write it as in {_FORMS}"
            problems.append(Problem((*key, name), text))
        elif moment.year == unlimited:
            continue
        elif moment.tzinfo is None and zone is None:
            text = 'has no offset to UTC: set zone = "Europe/Oslo", with the zone of your clock'
            problems.append(Problem((*key, name), text))
        else:
            local = moment if moment.tzinfo else moment.replace(tzinfo=zone)
            yield end, local.timestamp()


def _moment(written: object, days: int) -> datetime | None:
    """Return a moment; for a day, its midnight ``days`` later."""
    if isinstance(written, str):
        try:
            written = date.fromisoformat(written)
        except ValueError:
            try:
                written = datetime.fromisoformat(str(written))
            except ValueError:
                return None
    if isinstance(written, datetime):
        return written
    if isinstance(written, date):
        later = timedelta(days=days)
        return datetime.combine(min(written, date.max - later) + later, time())
    return None
