"""Time windows: hours, weekdays and dates in a named time zone."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from pexpolicy.config.plugin_settings import PluginSettings
from pexpolicy.config.time_zones import TimeZone

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: tuple[Weekday, ...] = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)
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

    @model_validator(mode="before")
    @classmethod
    def _is_a_table(cls, written: Any) -> Any:
        if not isinstance(written, dict | PluginSettings):
            msg = (
                'is a table: write time = { zone = "Europe/Oslo", between = ["18:00", "08:00"] }, '
                "with the zone of your clock"
            )
            raise ValueError(msg)  # noqa: TRY004 - pydantic reports a ValueError only
        return written

    @field_validator("between", mode="before")
    @classmethod
    def _are_two_times(cls, between: Any) -> Any:
        if isinstance(between, str):
            msg = f"takes two times: write between = [{', '.join(map(repr, _times(between)))}]"
            raise ValueError(msg)  # noqa: TRY004 - as above
        if isinstance(between, list):
            for hour in between:
                if not isinstance(hour, time) and not _HOUR.fullmatch(str(hour)):
                    msg = f"{hour!r} is not a time of day; {_meant_hour(str(hour))}"
                    raise ValueError(msg)
        if isinstance(between, list) and len(between) != 2:  # noqa: PLR2004 - a from and a to
            msg = 'takes two times, as in ["08:00", "17:00"]'
            raise ValueError(msg)
        return between

    @field_validator("weekdays", mode="before")
    @classmethod
    def _are_weekdays(cls, weekdays: Any) -> Any:
        written = [weekdays] if isinstance(weekdays, str) else weekdays
        if not isinstance(written, list) or weekdays == [day for day in written if day in WEEKDAYS]:
            return weekdays
        meant = [_meant_days(str(text)) for text in written]
        days = dict.fromkeys(day for some in meant for day in some) if all(meant) else {}
        form = f"write {list(days)}" if days else f"write some of {', '.join(map(repr, WEEKDAYS))}"
        odd = next((text for text in written if text not in WEEKDAYS), weekdays)
        msg = f"{odd!r} is not a list of weekdays in English; {form}"
        raise ValueError(msg)

    @field_validator("dates", "since", "until", mode="before")
    @classmethod
    def _are_dates(cls, written: Any) -> Any:
        for day in written if isinstance(written, list) else [written]:
            if isinstance(day, str) and not _is_date(day):
                msg = f"{day!r} is not a date; write year, month and day, as in 2030-12-24"
                raise ValueError(msg)
        return written

    @field_validator("between")
    @classmethod
    def _are_local_times(cls, between: list[time] | None) -> list[time] | None:
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


_HOUR = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?")


def _meant_hour(written: str) -> str:
    """Return what to write instead of an hour such as ``9:00``, ``8.30``, ``7pm`` or ``8``."""
    found = re.fullmatch(r"(\d{1,2})(?:[:.h](\d\d))?\s*([ap]m)?", written.strip().lower())
    if found is None:
        return "write it as in '08:00'"
    hour = int(found[1])
    if found[3]:
        hour = hour % 12 + (12 if found[3] == "pm" else 0)
    if hour == 24:  # noqa: PLR2004 - the end of a day
        return "midnight is '00:00'"
    return f"write '{hour:02}:{found[2] or '00'}'" if hour < 24 else "write 00:00 to 23:59"  # noqa: PLR2004 - as above


def _meant_days(written: str) -> list[str]:
    """Return the days that a text such as ``Mon``, ``monday-friday`` or ``weekend`` means."""
    text = written.strip().lower()
    if text in ("weekend", "weekends"):
        return ["saturday", "sunday"]
    words = [word for word in re.findall(r"\w+", text) if word not in ("to", "until", "and")]
    days = [
        next((n for n, name in enumerate(WEEKDAYS) if len(word) > 1 and name.startswith(word)), -1)
        for word in words
    ]
    if -1 in days:
        return []
    if len(days) == 2 and re.search(r"-|\u2013|\.\.|\bto\b|\buntil\b", text):  # noqa: PLR2004 - from and to
        count = (days[1] - days[0]) % len(WEEKDAYS) + 1
        return [WEEKDAYS[(days[0] + n) % len(WEEKDAYS)] for n in range(count)]
    return [WEEKDAYS[day] for day in days]


def _is_date(written: str) -> bool:
    try:
        date.fromisoformat(written)
    except ValueError:
        return False
    return True


def _times(written: str) -> list[str]:
    """Return the two times in a text such as ``18:00-08:00``, or two examples."""
    found = re.findall(r"[0-9]{2}:[0-9]{2}", written)
    return found if len(found) == 2 else ["18:00", "08:00"]  # noqa: PLR2004 - a from and a to


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
        return self.holds_on(local.date()) and (
            between is None or _is_between(local.time(), *between)
        )

    def holds_on(self, day: date) -> bool:
        """Return whether any time of a day may be in the window."""
        settings = self.settings
        return (
            day.weekday() in self._weekdays
            and (not self._dates or day in self._dates)
            and (settings.since is None or day >= settings.since)
            and (settings.until is None or day <= settings.until)
        )


def _is_between(now: time, start: time, end: time) -> bool:
    return start <= now < end if start < end else now >= start or now < end
