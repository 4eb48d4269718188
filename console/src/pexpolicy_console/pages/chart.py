"""Charts of calls over time: columns, scales and marks, in the units of their templates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import NamedTuple

from pexpolicy_console.context import Visit
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import Tally
from pexpolicy_console.index.writer import MINUTE_MS
from pexpolicy_console.pages.changes import Change
from pexpolicy_console.periods import zone_named

DAY_MS = 1440 * MINUTE_MS
HEIGHTS = (132, 56)
"""Of the largest column, in pixels: of accepted calls, and of the others."""
FLAG_PERCENT = (9, 27)
"""Of the width that the flag of a mark takes, on a wide and on a narrow window."""
LEFT_PERCENT = 80
"""Place from which on a flag is to the left of its mark."""


class Span(NamedTuple):
    """What a chart shows; ``minutes`` and ``units`` of a column on a wide and a narrow window."""

    name: str
    title: str
    length: int
    minutes: tuple[int, int]
    units: tuple[str, str]
    label: int
    """Minutes between two labels of the axis."""
    time: str
    """The kind of the times of the axis."""


SPANS = {
    "1h": Span("1h", "1 hour", 60, (1, 5), ("a minute", "5 minutes"), 10, "clock"),
    "24h": Span("24h", "24 hours", 1440, (15, 60), ("15 minutes", "an hour"), 180, "clock"),
    "14d": Span("14d", "14 days", 20160, (360, 1440), ("6 hours", "a day"), 2880, "day"),
}


def zone_of(visit: Visit) -> tzinfo:
    """Return the zone of the browser, which its script keeps in a cookie; UTC without one."""
    try:
        return zone_named(visit.text("zone") or visit.request.cookies.get("zone", ""))
    except ValueError:
        return UTC


def bounds(span: Span, now: float, zone: tzinfo) -> list[int]:
    """Return the moments between the columns of a wide chart; ``now`` is in one of the last."""
    step, narrow = (one * MINUTE_MS for one in span.minutes)
    if narrow == DAY_MS:
        return days(span.length * MINUTE_MS // DAY_MS, now, zone, parts=DAY_MS // step)
    end = _rounded(int(now * 1000) + 1, step, zone)
    return list(range(end - span.length * MINUTE_MS, end + 1, step))


def _rounded(at: int, step: int, zone: tzinfo) -> int:
    """Return the next moment that is a whole number of steps in a zone."""
    offset = datetime.fromtimestamp(at / 1000, zone).utcoffset() or timedelta()
    local = at + int(offset.total_seconds()) * 1000
    return at + -local % step


def days(count: int, now: float, zone: tzinfo, parts: int = 1) -> list[int]:
    """Return the moments between days of a zone, or parts of them; today is the last day."""
    today = datetime.combine(datetime.fromtimestamp(now, zone), datetime.min.time(), zone)
    # Sums are those of the clocks of the zone: a day may have an hour more or less.
    times = (today + timedelta(1 - count + n / parts) for n in range(count * parts + 1))
    return [int(one.timestamp() * 1000) for one in times]


def link(start: int, end: int, **filters: str) -> str:
    """Return the URL of the lines of a period."""
    return Query(**filters).between(start, end).url()


class Column(NamedTuple):
    """Calls between two moments, by result; heights are in pixels."""

    at: int
    end: int
    counts: Sequence[int]
    heights: Sequence[float]
    url: str
    is_known: bool = True


def columns(
    moments: Iterable[int],
    counts: Iterable[Sequence[int]],
    tops: tuple[int, int],
    heights: tuple[int, int] = HEIGHTS,
    url: Callable[[int, int], str] = link,
) -> Iterator[Column]:
    """Yield the columns between moments; ``tops`` are the ends of the scales of ``heights``."""
    for (start, end), parts in zip(pairwise(moments), counts, strict=True):
        scales = zip(parts, (0, 1, 1), strict=True)
        high = [max(1.5, n * heights[at] / tops[at]) if n else 0.0 for n, at in scales]
        yield Column(start, end, parts, high, url(start, end))


class Chart(NamedTuple):
    """Columns of calls; places on the axis are in percent."""

    size: str
    """Which windows it is for: ``wide`` or ``narrow``."""
    unit: str
    columns: list[Column]
    tops: tuple[int, int]
    """The ends of both scales."""
    labels: list[tuple[float, float]]
    marks: list[tuple[float, list[Change], int]]
    """With a number where flags would collide; those that would even so share one."""
    no_data: list[tuple[float, float]]

    def path(self, kind: int) -> str:
        """Return the path of accepted or refused calls."""
        start, sign = ((HEIGHTS[0], -1), (0, 1))[kind]
        found = ((at, sign * one.heights[kind]) for at, one in enumerate(self.columns))
        return "".join(f"M{at + 0.08:.2f} {start}v{h:.1f}h.84v{-h:.1f}z" for at, h in found if h)


def chart(
    span: Span,
    moments: Sequence[int],
    found: Sequence[Tally],
    marks: Sequence[Change],
    unknown: Sequence[tuple[int, int]],
    zone: tzinfo,
    place: int,
) -> Chart:
    """Return the chart for wide or for narrow windows, by ``place``."""
    start, length = moments[0], moments[-1] - moments[0]
    times = span.minutes[place] // span.minutes[0]
    parts = zip(*[(one.counts for one in found)] * times, strict=True)
    joined = [[*map(sum, zip(*part, strict=True))] for part in parts]
    tops = _end(max(one[0] for one in joined)), _end(max(one[1] + one[2] for one in joined))

    def percent(at: int) -> float:
        return 100 * min(max(at - start, 0), length) / length

    def is_known(one: Column) -> bool:
        return any(one.counts) or not any(a <= one.at and one.end <= b for a, b in unknown)

    step = span.label * MINUTE_MS * (1 + place)
    labels = range(_rounded(start, step, zone), moments[-1] - step // 4, step)

    def distance(a: float, b: float) -> float:
        # Two flags are between a mark and a later one whose flag is to the left of it.
        return (b - a) / (1 + (a <= LEFT_PERCENT < b))

    placed: list[tuple[float, list[Change]]] = []
    for one in marks:
        at = percent(int(one.key))
        if not placed or distance(placed[-1][0], at) >= FLAG_PERCENT[place] / 2:
            placed.append((at, []))
        placed[-1][1].append(one)
    collide = any(distance(a, b) < FLAG_PERCENT[place] for (a, _), (b, _) in pairwise(placed))
    return Chart(
        ("wide", "narrow")[place],
        span.units[place],
        [one._replace(is_known=is_known(one)) for one in columns(moments[::times], joined, tops)],
        tops,
        [(percent(at), at / 1000) for at in labels],
        [(at, group, number * collide) for number, (at, group) in enumerate(placed, 1)],
        [(percent(a), percent(b) - percent(a)) for a, b in unknown if percent(a) < percent(b)],
    )


def _end(value: int) -> int:
    """Return the end of a scale: its half is a round number as well."""
    factor: int = 10 ** (len(str(max(value, 1) - 1)) - 1)
    return next(one * factor for one in (2, 4, 6, 8, 10) if value <= one * factor)
