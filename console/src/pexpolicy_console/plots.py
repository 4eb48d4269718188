"""Plots of the last hour as SVG: they need no script, and read as tables without colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from markupsafe import Markup

from pexpolicy.cli.for_console import CALL_BOUNDS

MINUTES = 60
COLUMN = 10
"""Width of a minute."""
MINUTES_END = COLUMN * MINUTES
"""The labels are after the last minute, which a narrow window shows."""
LEFT, TOP, BOTTOM, RIGHT = 16, 8, 22, 64
HEIGHT = 120
ROW = 10
"""Height of a row of the heat map."""
SHADES = 5
TICK_MINUTES = 10
SERIES = 6
"""Number of series with a pattern of their own; further ones share the last."""

BOUNDS = (*CALL_BOUNDS, math.inf)
"""The upper bounds of the buckets of latency, in seconds."""
Counts = Mapping[str, Sequence[int]]
"""A count for each minute by series."""


def stacked_bars(minutes: Sequence[float], counts: Counts, title: str) -> Markup:
    """Return bars of a minute each, the series stacked; a title on each bar has its numbers."""
    totals = [sum(column) for column in zip(*counts.values(), strict=True)] or [0] * len(minutes)
    top = _round_up(max(totals, default=0))
    parts = [_grid(top)]
    for at, minute in enumerate(minutes):
        if not totals[at]:
            continue
        base: float = TOP + HEIGHT
        rects: list[Markup] = []
        for number, values in enumerate(counts.values()):
            if not values[at]:
                continue
            height = values[at] / top * HEIGHT
            base -= height
            rects.append(_rect(at, base, height, f"s{min(number, SERIES - 1)}"))
        said = ", ".join(f"{name} {v[at]:,}" for name, v in counts.items() if v[at])
        parts.append(_group(f"{_clock(minute)}: {said}", rects))
    return _svg(minutes, parts, HEIGHT, title)


def heat_map(minutes: Sequence[float], columns: Sequence[Sequence[int]], title: str) -> Markup:
    """Return a cell for each minute and each bucket of latency, darker for more calls."""
    used = [row for row in range(len(CALL_BOUNDS) + 1) if any(column[row] for column in columns)]
    low, high = (min(used), max(used)) if used else (0, 6)
    low, high = max(0, low - 1), min(len(CALL_BOUNDS), max(high + 1, low + 5))
    most = max((max(column) for column in columns), default=0)
    rows = high - low + 1
    parts: list[Markup] = []
    for row in range(low, high + 1):
        y = TOP + (high - row) * ROW
        if (row - low) % 2 == 0:
            parts.append(
                Markup('<text x="{}" y="{}" class="axis">{}</text>').format(
                    LEFT + MINUTES_END + 6, y + ROW - 1, _bound(row)
                )
            )
    for at, column in enumerate(columns):
        for row in range(low, high + 1):
            if count := column[row]:
                shade = 1 + round((SHADES - 1) * (count / most) ** 0.5)
                y = TOP + (high - row) * ROW
                said = f"{_clock(minutes[at])}: {count:,} calls {_range(row)}"
                parts.append(_group(said, [_rect(at, y, ROW, f"h{shade}")]))
    return _svg(minutes, parts, rows * ROW, title)


def _svg(minutes: Sequence[float], parts: Sequence[Markup], height: float, title: str) -> Markup:
    width = LEFT + COLUMN * len(minutes) + RIGHT
    ticks = [
        Markup('<text x="{}" y="{}" class="axis middle" data-time="{}">{}</text>').format(
            LEFT + at * COLUMN, TOP + height + 15, f"{minute:.0f}", _clock(minute, zone=False)
        )
        for at, minute in enumerate(minutes)
        if round(minute / 60) % TICK_MINUTES == 0
    ]
    return Markup(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>'
    ).format(width, TOP + height + BOTTOM, title, Markup("").join(parts), Markup("").join(ticks))


def _grid(top: int) -> Markup:
    lines = Markup("")
    for share in (0.0, 0.5, 1.0):
        y = TOP + HEIGHT * (1 - share)
        value = top * share
        shown = f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
        lines += Markup(
            '<path d="M{} {}H{}" class="grid"/><text x="{}" y="{}" class="axis">{}</text>'
        ).format(LEFT, f"{y:g}", LEFT + MINUTES_END, LEFT + MINUTES_END + 6, f"{y + 4:g}", shown)
    return lines


def _group(said: str, rects: Sequence[Markup]) -> Markup:
    return Markup("<g><title>{}</title>{}</g>").format(said, Markup("").join(rects))


def _rect(at: int, y: float, height: float, kind: str) -> Markup:
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}"/>').format(
        LEFT + at * COLUMN, f"{y:.4g}", COLUMN - 1, f"{max(height, 0.5):.4g}", kind
    )


def _clock(minute: float, *, zone: bool = True) -> str:
    return f"{datetime.fromtimestamp(minute, UTC):%H:%M}{'Z' if zone else ''}"


def _bound(row: int) -> str:
    return "more" if row == len(CALL_BOUNDS) else seconds(CALL_BOUNDS[row])


def _range(row: int) -> str:
    return (
        f"over {seconds(CALL_BOUNDS[-1])}"
        if row == len(CALL_BOUNDS)
        else f"up to {seconds(CALL_BOUNDS[row])}"
    )


def seconds(value: float) -> str:
    """Return a duration of a bucket, such as ``0.25 ms`` or ``2 s``."""
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def _round_up(value: int) -> int:
    """Return the next number with one significant digit, 2 at least."""
    size = int(f"1{'0' * (len(str(value)) - 1)}")
    return max(2, -(-value // size) * size)


def quantile(buckets: Iterable[tuple[float, int]], share: float) -> float | None:
    """Return the upper bound of the bucket with this share of all calls; ``None`` without calls.

    ``buckets`` has the upper bound and the count of each, in ascending order.
    """
    buckets = list(buckets)
    rank = share * sum(count for _, count in buckets)
    for bound, count in buckets:
        rank -= count
        if count and rank <= 0:
            return bound
    return None
