"""Statistics of audit lines."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stats:
    """How many lines there are of each kind, and how long the calls took."""

    lines: int = 0
    damaged: int = 0
    first: str = ""
    last: str = ""
    lost: int = 0
    """Lines that the writers said were lost."""
    events: Counter[str] = field(default_factory=Counter)
    decisions: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By endpoint, who decided, and action; where the status is not 200, the status."""
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Steps by plugin and outcome."""
    refusals: Counter[str] = field(default_factory=Counter)
    times: array[float] = field(default_factory=lambda: array("d"))
    """Milliseconds of each decision."""

    def add(self, event: Mapping[str, Any]) -> None:
        """Count one line."""
        self.lines += 1
        at = str(event.get("timestamp", ""))
        self.first = min(self.first or at, at)
        self.last = max(self.last, at)
        self.lost += event.get("lost_count", 0)
        kind = event["event"]
        self.events[kind] += 1
        if kind == "refused":
            self.refusals[str(event.get("reason"))] += 1
        if kind != "decision":
            return
        done = event["action"] if event["status"] == 200 else str(event["status"])  # noqa: PLR2004 - HTTP
        self.decisions[event["endpoint"], event["decided_by"], done] += 1
        for step in event["steps"]:
            self.outcomes[step["plugin"], step["outcome"]] += 1
        self.times.append(event["ms"])

    def percentile(self, percent: float) -> float:
        """The milliseconds that so many percent of the decisions did not exceed."""
        ordered = sorted(self.times)
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else 0.0

    def as_json(self) -> dict[str, Any]:
        """All figures, for programs."""
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
            "ms": {f"p{p}": self.percentile(p) for p in (50, 95, 99)},
        }
