"""Charts of a report as SVG, in the colours of its page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 880, 200
LEFT, BOTTOM, TOP = 64, 24, 8
"""Room for the labels of the axes, in pixels."""
MAX_BARS = 72
_STEPS_H = (1, 2, 3, 6, 12, 24, 48, 168, 336, 672)
"""Hours that a bar may stand for."""
_LABEL_WIDTH = 110


class Bar(NamedTuple):
    """The calls of some hours."""

    start: datetime
    same: int
    changed: int


def bars(by_hour: dict[int, int], changed: dict[int, int]) -> tuple[list[Bar], int]:
    """Return the calls in bars of equal length without gaps, and the hours that one stands for."""
    first, last = min(by_hour), max(by_hour)
    hours = last - first + 1
    step = next((step for step in _STEPS_H if hours / step <= MAX_BARS), -(-hours // MAX_BARS))
    first -= first % step
    count = (last - first) // step + 1
    all_calls, changes = [0] * count, [0] * count
    for hour, calls in by_hour.items():
        all_calls[(hour - first) // step] += calls
    for hour, calls in changed.items():
        changes[(hour - first) // step] += calls
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [
        Bar(epoch + timedelta(hours=first + n * step), all_calls[n] - changes[n], changes[n])
        for n in range(count)
    ], step


def timeline(found: Sequence[Bar], step: int) -> str:
    """Return stacked bars over the time, with a title for each."""
    top = _round_up(max(bar.same + bar.changed for bar in found))
    height = HEIGHT - TOP - BOTTOM
    room = (WIDTH - LEFT) / len(found)
    width = max(min(room - 2, 24.0), 1.0)
    parts = [
        (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'aria-label="Calls over time, equal and changed answers">'
        )
    ]
    for share in (0.0, 0.5, 1.0):
        y = TOP + height * (1 - share)
        parts += [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{top * share:,.0f}</text>',
        ]
    labels_every = max(1, round(_LABEL_WIDTH / room))
    for number, bar in enumerate(found):
        x = LEFT + room * number + (room - width) / 2
        end = bar.start + timedelta(hours=step)
        title = f"{bar.start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC: "
        title += f"{bar.same:,} same, {bar.changed:,} changed"
        high, low = height * bar.changed / top, height * bar.same / top
        parts.append(f"<g><title>{escape(title)}</title>")
        parts.append(_bar("same", x, TOP + height - low, width, low))
        parts.append(_bar("changed", x, TOP + height - low - high, width, high))
        parts.append("</g>")
        if number % labels_every == 0 and x + _LABEL_WIDTH / 2 < WIDTH:
            form = "%b %d" if step >= 24 else "%b %d %H:%M"  # noqa: PLR2004 - hours of a day
            middle = x + width / 2
            label = f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">'
            parts.append(f"{label}{bar.start:{form}}</text>")
    return "".join((*parts, "</svg>"))


def share_bar(parts: Sequence[tuple[str, int]], total: int) -> str:
    """Return one horizontal bar of parts, each a CSS class and its number."""
    shapes = []
    x = 0.0
    for name, count in parts:
        width = 100 * count / total if total else 0.0
        shapes.append(
            f'<rect class="{name}" x="{x:.3f}" width="{max(width, 0.3 if count else 0):.3f}" '
            'height="8" y="0"/>'
        )
        x += width
    return (
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="rest" width="100" height="8"/>{"".join(shapes)}</svg>'
    )


def _bar(name: str, x: float, y: float, width: float, height: float) -> str:
    if not height:
        return ""
    return (
        f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{max(height, 1.0):.1f}"/>'
    )


def _round_up(number: int) -> int:
    """Return the next number of the form 1, 2 or 5 times a power of ten, from 2 on."""
    scale = 1
    while True:
        for first in (1, 2, 5):
            if first * scale >= max(number, 2):
                return first * scale
        scale *= 10
