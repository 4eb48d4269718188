"""Statistics of audit lines."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any

import msgspec

OK = 200
HOUR_S = 3600


class _Step(msgspec.Struct, gc=False):
    plugin: str
    outcome: str


class _Decision(msgspec.Struct, gc=False):
    """What is counted of a decision; anything may be in a line that another program wrote."""

    endpoint: str
    decided_by: str
    action: str
    status: int
    ms: Annotated[float, msgspec.Meta(ge=0, le=1e12)]
    steps: list[_Step]


@lru_cache(maxsize=64)
def _hour_of(prefix: str) -> int | None:
    try:
        return int(datetime.fromisoformat(f"{prefix}:00:00+00:00").timestamp()) // HOUR_S
    except (ValueError, OverflowError):
        return None


def _hour(timestamp: str) -> int | None:
    """Return the hours from 1970 to a timestamp in UTC, which all lines have."""
    return _hour_of(timestamp[:13])


@dataclass
class Stats:
    """The number of lines of each kind, and the duration of calls."""

    lines: int = 0
    damaged: int = 0
    first: str = ""
    last: str = ""
    lost: int = 0
    """Lines lost according to the servers."""
    events: Counter[str] = field(default_factory=Counter)
    decisions: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By endpoint, plugin, and action; the status instead of the action unless it is 200."""
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Steps by plugin and outcome."""
    refusals: Counter[str] = field(default_factory=Counter)
    hours: Counter[int] = field(default_factory=Counter)
    """Decisions by hour, counted in UTC from 1970."""
    times: array[float] = field(default_factory=lambda: array("d"))
    """Milliseconds of each decision."""

    def add(self, event: Mapping[str, Any]) -> None:
        """Count one line."""
        self.lines += 1
        at = str(event.get("timestamp", ""))
        self.first = min(self.first or at, at)
        self.last = max(self.last, at)
        lost = event.get("lost_count")
        self.lost += lost if isinstance(lost, int) else 0
        kind = event["event"]
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
        for step in decision.steps:
            self.outcomes[step.plugin, step.outcome] += 1
        self.times.append(decision.ms)
        if (hour := _hour(at)) is not None:
            self.hours[hour] += 1

    def percentile(self, percent: float) -> float:
        """Return the milliseconds that ``percent`` of the decisions did not exceed."""
        ordered = sorted(self.times)
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return all figures."""
        return {
            "lines": self.lines,
            "damaged": self.damaged,
            "first": self.first,
            "last": self.last,
            "lost": self.lost,
            "events": dict(self.events),
            "decisions": [
                {"endpoint": endpoint, "decided_by": by, "action": action, "count": count}
                for (endpoint, by, action), count in sorted(self.decisions.items())
            ],
            "steps": [
                {"plugin": plugin, "outcome": outcome, "count": count}
                for (plugin, outcome), count in sorted(self.outcomes.items())
            ],
            "refusals": dict(self.refusals),
            "hours": {
                f"{datetime.fromtimestamp(hour * HOUR_S, UTC):%Y-%m-%dT%H:00:00Z}": count
                for hour, count in sorted(self.hours.items())
            },
            "ms": {f"p{p}": self.percentile(p) for p in (50, 95, 99)},
        }
