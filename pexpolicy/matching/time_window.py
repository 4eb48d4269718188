"""Time windows: hours, weekdays and dates in a named time zone."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pexpolicy.config.plugin_settings import PluginSettings, TimeZone

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
Day = Annotated[date, Field(strict=False)]
Hour = Annotated[time, Field(strict=False)]


class TimeOperators(PluginSettings):
    """The time of a call in a time zone; every key that is set must match."""

    zone: TimeZone
    """A name of the IANA time zone database, such as ``Europe/Oslo``."""
    between: list[Hour] | None = None
    """From the first time up to, excluding, the second; past midnight if the second is earlier."""
    weekdays: Annotated[list[Weekday], Field(min_length=1)] | None = None
    """Weekdays of the current time: after midnight it is the next one."""
    dates: Annotated[list[Day], Field(min_length=1)] | None = None
    """Single days, such as holidays."""
    since: Day | None = None
    """The first day."""
    until: Day | None = None
    """The last day."""

    @field_validator("between", "weekdays", "dates", "since", "until", mode="before")
    @classmethod
    def _are_in_form(cls, written: Any, info: ValidationInfo) -> Any:
        is_valid, form = _FORMS.get(str(info.field_name), (_is_date, _DATE))
        for one in written if isinstance(written, list) else [written]:
            if not is_valid(one):
                msg = f"{one!r} is not {form}"
                raise ValueError(msg)
        return written

    @field_validator("between")
    @classmethod
    def _are_local_times(cls, between: list[time] | None) -> list[time] | None:
        if between is not None and len(between) != 2:  # noqa: PLR2004 - a from and a to
            msg = 'takes two times, as in ["08:00", "17:00"]'
            raise ValueError(msg)
        if between is not None and between[0] == between[1]:
            msg = "the two times are equal; leave it out for the whole day"
            raise ValueError(msg)
        if between is not None and any(hour.tzinfo for hour in between):
            msg = "write local times, as in 18:00; zone is a key of its own"
            raise ValueError(msg)
        return between

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not self.model_fields_set - {"zone"}:
            msg = "is empty; add between, weekdays, dates, since or until"
            raise ValueError(msg)
        if self.since is not None and self.until is not None and self.until < self.since:
            msg = "until is before since, so no day matches"
            raise ValueError(msg)
        return self


_HOUR = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?").fullmatch
_DATE = "a date; write year, month and day, as in 2030-12-24"


def _is_date(written: Any) -> bool:
    try:
        return isinstance(written, date) or bool(date.fromisoformat(written))
    except (ValueError, TypeError):
        return False


_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "between": (
        lambda hour: isinstance(hour, time) or _HOUR(str(hour)) is not None,
        'a time of day; write two, as in ["08:00", "17:00"]',
    ),
    "weekdays": (lambda day: day in WEEKDAYS, f"a weekday; write some of {list(WEEKDAYS)}"),
}
"""By key: what tests a value before it is converted, and what to write instead."""


class TimeWindow:
    """A compiled ``TimeOperators``; equal to any other one of the same settings."""

    def __init__(self, settings: TimeOperators) -> None:
        self.settings = settings
        self._zone = ZoneInfo(settings.zone)
        self._weekdays = frozenset(WEEKDAYS.index(day) for day in settings.weekdays or WEEKDAYS)
        self._dates = frozenset(settings.dates or ())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TimeWindow) and self.settings == other.settings

    def __hash__(self) -> int:
        return hash(self.settings.zone)

    def __str__(self) -> str:
        settings = self.settings
        parts = [*(settings.weekdays or ()), *map(str, settings.dates or ())]
        if settings.between is not None:
            parts.insert(0, "{:%H:%M} to {:%H:%M}".format(*settings.between))
        if settings.since is not None:
            parts.append(f"since {settings.since}")
        if settings.until is not None:
            parts.append(f"until {settings.until}")
        return f"{', '.join(parts)} {settings.zone}"

    def local(self, now: float) -> datetime:
        """Return a time, in seconds since 1970, in the zone of the window."""
        return datetime.fromtimestamp(now, self._zone)

    def format(self, now: float) -> str:
        """Return a time in the zone of the window, with the day where that counts too."""
        settings = self.settings
        counts = settings.weekdays or settings.dates or settings.since or settings.until
        return f"{self.local(now):{'%A %Y-%m-%d %H:%M' if counts else '%H:%M'}}"

    def contains(self, now: float) -> bool:
        """Return whether a time, in seconds since 1970, is in the window."""
        local, between = self.local(now), self.settings.between
        if between is None or not self.holds_on(local.date()):
            return self.holds_on(local.date())
        start, end = between
        is_after, is_before = local.time() >= start, local.time() < end
        return is_after and is_before if start < end else is_after or is_before

    def holds_on(self, day: date) -> bool:
        """Return whether any time of a day may be in the window."""
        settings = self.settings
        return (
            day.weekday() in self._weekdays
            and (not self._dates or day in self._dates)
            and (settings.since is None or day >= settings.since)
            and (settings.until is None or day <= settings.until)
        )
