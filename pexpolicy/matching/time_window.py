"""Time windows: hours, weekdays and dates in a named time zone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Annotated, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from pexpolicy.config.plugin_settings import PluginSettings, TimeZone

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)


class TimeOperators(PluginSettings):
    """The time of a call in a time zone; every key that is set must match."""

    zone: TimeZone
    """A name of the IANA time zone database, such as ``Europe/Oslo``."""
    between: list[time] | None = None
    """From the first time up to, excluding, the second, as in ["08:00", "17:00"]; past midnight if
    the second is earlier.
    """
    weekdays: Annotated[list[Weekday], Field(min_length=1)] | None = None
    """Weekdays of the current time: after midnight it is the next one."""
    dates: Annotated[list[date], Field(min_length=1)] | None = None
    """Single days, such as the holiday "2030-12-24"."""
    since: date | None = None
    """The first day."""
    until: date | None = None
    """The last day."""

    @field_validator("between")
    @classmethod
    def _are_two_local_times(cls, between: Sequence[time] | None) -> Sequence[time] | None:
        if between is not None and (
            len(set(between)) != 2 or len(between) != 2 or any(hour.tzinfo for hour in between)  # noqa: PLR2004 - a from and a to
        ):
            raise ValueError('takes two different local times, as in ["08:00", "17:00"]')
        return between

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not self.model_fields_set - {"zone"}:
            raise ValueError("is empty; add between, weekdays, dates, since or until")
        if self.since and self.until and self.until < self.since:
            raise ValueError("until is before since, so no day matches")
        return self

    def __hash__(self) -> int:
        return hash(self.zone)

    def __str__(self) -> str:
        parts = [*(self.weekdays or ()), *map(str, self.dates or ())]
        if self.between is not None:
            parts.insert(0, "{:%H:%M} to {:%H:%M}".format(*self.between))
        parts += [f"since {self.since}"] if self.since is not None else []
        parts += [f"until {self.until}"] if self.until is not None else []
        return f"{', '.join(parts)} {self.zone}"

    def local(self, now: float) -> datetime:
        """Return a time, in seconds since 1970, in the zone of the window."""
        return datetime.fromtimestamp(now, ZoneInfo(self.zone))

    def contains(self, now: float) -> bool:
        """Return whether a time, in seconds since 1970, is in the window."""
        local = self.local(now)
        day, hour = local.date(), local.time()
        start, end = self.between or (time.min, time.min)
        return (
            (self.weekdays is None or WEEKDAYS[day.weekday()] in self.weekdays)
            and (self.dates is None or day in self.dates)
            and (self.since or day) <= day <= (self.until or day)
            and (start <= hour < end if start < end else not end <= hour < start)
        )
