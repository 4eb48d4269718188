"""Statistics of audit lines."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from rich.console import Console

from pexpolicy.cli.common import count
from pexpolicy.cli.text import format_time, print_table

HOURS = 24
"""Hours in the statistics."""
OK = 200


class _Step(msgspec.Struct, gc=False):
    plugin: str
    outcome: str


class _Decision(msgspec.Struct, gc=False):
    """What is counted of a decision."""

    endpoint: str
    decided_by: str
    action: str
    status: int
    ms: Annotated[float, msgspec.Meta(ge=0, le=1e12)]
    steps: list[_Step]


class Stats:
    """The number of lines of each kind, and the duration of calls."""

    def __init__(self) -> None:
        self.lines = self.damaged = self.lost = 0
        self.first = self.last = ""
        self.events: Counter[str] = Counter()
        self.decisions: Counter[tuple[str, ...]] = Counter()
        self.steps: Counter[tuple[str, ...]] = Counter()
        self.refusals: Counter[str] = Counter()
        self.hours: Counter[datetime] = Counter()
        self.times = array("d")

    def add(self, event: Mapping[str, Any]) -> None:
        """Count one line."""
        at, lost, kind = str(event.get("timestamp", "")), event.get("lost_count"), event["event"]
        self.lines += 1
        self.first, self.last = min(self.first or at, at), max(self.last, at)
        self.lost += lost if isinstance(lost, int) else 0
        self.events[kind] += 1
        if kind == "refused":
            self.refusals[str(event.get("reason"))] += 1
        if kind != "decision":
            return
        try:
            decision = msgspec.convert(event, _Decision)
        except msgspec.ValidationError:
            self.damaged += 1
            return
        action = decision.action if decision.status == OK else str(decision.status)
        self.decisions[decision.endpoint, decision.decided_by, action] += 1
        self.steps.update((step.plugin, step.outcome) for step in decision.steps)
        self.times.append(decision.ms)
        with suppress(ValueError):
            self.hours[datetime.fromisoformat(f"{at[:13]}:00+00:00")] += 1

    def percentiles(self) -> dict[str, float]:
        """Return the milliseconds that 50, 95 and 99 % of the decisions did not exceed."""
        ordered = sorted(self.times) or [0.0]
        last = len(ordered) - 1
        return {f"p{p}": ordered[min(len(ordered) * p // 100, last)] for p in (50, 95, 99)}

    def as_json(self) -> dict[str, Any]:
        """Return all figures."""
        return {
            **{name: getattr(self, name) for name in ("lines", "damaged", "first", "last", "lost")},
            "events": dict(self.events),
            "decisions": _listed(("endpoint", "decided_by", "action"), self.decisions),
            "steps": _listed(("plugin", "outcome"), self.steps),
            "refusals": dict(self.refusals),
            "hours": {f"{at:%Y-%m-%dT%H:00:00Z}": n for at, n in sorted(self.hours.items())},
            "ms": self.percentiles(),
        }

    def show(self, console: Console) -> None:
        """Print the figures as tables."""
        if not self.lines:
            console.print(f"There are no lines to count; damaged: {self.damaged}")
            return
        console.print(
            f"{count(self.lines, 'line')} from {format_time(self.first)} to "
            f"{format_time(self.last)}; damaged: {self.damaged}; {count(self.lost, 'line')} lost, "
            "according to the servers"
        )
        last = max(self.hours, default=datetime.now(UTC))
        ago = min(HOURS - 1, int((last - min(self.hours, default=last)) / timedelta(hours=1)))
        hours = [last - timedelta(hours=n) for n in range(ago, -1, -1)] if self.hours else []
        local = ((f"{at.astimezone():%Y-%m-%d %H:%M%z}", self.hours[at]) for at in hours)
        calls = ((*key, number) for key, number in self.decisions.most_common())
        steps = ((*key, number) for key, number in sorted(self.steps.items()))
        _print_counts(console, ("endpoint", "decided by", "action", "calls"), calls)
        _print_counts(console, ("hour", "calls"), local)
        _print_counts(console, ("plugin", "outcome", "steps"), steps)
        _print_counts(console, ("refused", "calls"), self.refusals.most_common())
        if self.times:
            times = ", ".join(f"{name} {ms:.3f}" for name, ms in self.percentiles().items())
            console.print(f"\nmilliseconds in the server: {times}")


def _listed(names: Sequence[str], counts: Counter[tuple[str, ...]]) -> list[dict[str, Any]]:
    rows = sorted(counts.items())
    return [dict(zip(names, key, strict=True)) | {"count": number} for key, number in rows]


def _print_counts(
    console: Console, names: Sequence[str], counts: Iterable[tuple[Any, ...]]
) -> None:
    """Print rows whose last column is a number, with its share of the sum."""
    rows = [*counts]
    total = sum(row[-1] for row in rows) or 1
    if rows:
        console.print()
        shown = ((*cells, f"{number:,}", f"{number / total:.1%}") for *cells, number in rows)
        print_table(console, (*names, "share"), shown, (names[-1], "share"))
