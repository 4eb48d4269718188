"""Audit lines, statistics and chains on a terminal."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from rich.console import Console
from rich.text import Text

from pexpolicy.audit.console import FAILURES, SEPARATOR, parts
from pexpolicy.audit.verify import ChainState, Verification
from pexpolicy.cli.common import count
from pexpolicy.cli.text import as_text, table_of
from pexpolicy.models.difference import describe_changes
from pexpolicy.text import printable

STEP = ("plugin", "outcome", "ms", "detail")
ID_LENGTH = 13
"""Of a decision id on a terminal: its milliseconds, which are rarely those of another call."""
HOURS = 24
"""Hours in the statistics."""
HOUR_S = 3600
OK = 200
CHAIN_FIELDS = ("instance", "after", "prev", "lost_count", "boot_id", "seq", "hash")


def format_time(timestamp: object) -> str:
    """Return a timestamp of a line in local time with its offset."""
    try:
        return f"{datetime.fromisoformat(str(timestamp)).astimezone():%Y-%m-%d %H:%M:%S%z}"
    except (ValueError, OverflowError):
        return "?"


def print_short(console: Console, event: Mapping[str, Any]) -> None:
    """Print a line as on the terminal of a server, with the date and the decision id.

    On a terminal the id is shortened; ``audit show`` takes its beginning.
    """
    texts = [("dim", format_time(event.get("timestamp"))), *parts(event)]
    if decision_id := printable(event.get("decision_id") or ""):
        texts += [SEPARATOR, ("dim", decision_id[: ID_LENGTH if console.is_terminal else None])]
    console.print(Text(" ").join(Text(text, style) for style, text in texts))


def show_whole(console: Console, event: Mapping[str, Any]) -> None:
    """Print a line for each field and for each value in it, and a table of the steps."""
    print_short(console, event)
    rows: list[tuple[str, Any]] = []
    for name, value in event.items():
        if isinstance(value, dict):
            rows += [(name, ""), *((f"  {key} =", part) for key, part in value.items())]
        elif name not in ("steps", "event", *CHAIN_FIELDS):
            rows.append((name, value))
    rows.append(("chain", " ".join(f"{n}={event[n]}" for n in CHAIN_FIELDS if n in event)))
    if "seq" in event and "hash" in event:
        rows.append(("anchor", f"{event['seq']}:{event['hash']}"))
    width = max(len(printable(name)) for name, _ in rows)
    for name, value in rows:
        # An anchor is copied, so it is not broken into lines.
        text = Text.assemble((f"{printable(name):<{width}}  ", "dim"), as_text(value))
        console.print(text, soft_wrap=name == "anchor")
    listed = event.get("steps")
    steps = [one for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict)]
    if not steps:
        return
    table = table_of(*STEP)
    for step in steps:
        cells = [Text(as_text(step.get(name, ""))) for name in STEP]
        cells[1].stylize("red" if step.get("outcome") in FAILURES else "")
        table.add_row(*cells)
    console.print(table)
    for step in steps:
        if changes := _changes(step):
            console.print(Text(f"{as_text(step.get('plugin'))}: {printable(changes)}"))


def _changes(step: Mapping[str, Any]) -> str:
    """Return what a plugin changed, or gave to a merged decision."""
    changes, fields = step.get("changes"), step.get("fields")
    if not isinstance(changes, dict):
        return ", ".join(map(str, fields if isinstance(fields, list) else ()))
    return describe_changes(
        {
            name: change
            for name, change in changes.items()
            if isinstance(change, dict) and not change.keys().isdisjoint(("from", "to"))
        }
    )


# ---- statistics


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
def _hour_of(beginning: str) -> int | None:
    """Return the hours since 1970 of a time in UTC up to its hour, which all lines have."""
    try:
        return int(datetime.fromisoformat(f"{beginning}:00:00+00:00").timestamp()) // HOUR_S
    except (ValueError, OverflowError):
        return None


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
    decisions: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """By endpoint, plugin, and action; the status instead of the action unless it is 200."""
    steps: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """By plugin and outcome."""
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
        self.steps.update((step.plugin, step.outcome) for step in decision.steps)
        self.times.append(decision.ms)
        if (hour := _hour_of(at[:13])) is not None:
            self.hours[hour] += 1

    def percentiles(self) -> dict[str, float]:
        """Return the milliseconds that 50, 95 and 99 % of the decisions did not exceed."""
        ordered = sorted(self.times) or [0.0]
        last = len(ordered) - 1
        return {f"p{p}": ordered[min(len(ordered) * p // 100, last)] for p in (50, 95, 99)}

    def as_json(self) -> dict[str, Any]:
        """Return all figures."""
        hours = {datetime.fromtimestamp(hour * HOUR_S, UTC): n for hour, n in self.hours.items()}
        return {
            **{name: getattr(self, name) for name in ("lines", "damaged", "first", "last", "lost")},
            "events": dict(self.events),
            "decisions": _listed(("endpoint", "decided_by", "action"), self.decisions),
            "steps": _listed(("plugin", "outcome"), self.steps),
            "refusals": dict(self.refusals),
            "hours": {f"{at:%Y-%m-%dT%H:00:00Z}": hours[at] for at in sorted(hours)},
            "ms": self.percentiles(),
        }


def _listed(names: Sequence[str], counts: Counter[tuple[str, ...]]) -> list[dict[str, Any]]:
    rows = sorted(counts.items())
    return [dict(zip(names, key, strict=True)) | {"count": number} for key, number in rows]


def show_stats(console: Console, stats: Stats) -> None:
    """Print the figures as tables."""
    if not stats.lines:
        console.print(f"There are no lines to count; damaged: {stats.damaged}")
        return
    console.print(
        f"{count(stats.lines, 'line')} from {format_time(stats.first)} to "
        f"{format_time(stats.last)}; damaged: {stats.damaged}; {count(stats.lost, 'line')} lost, "
        "according to the servers"
    )
    last = max(stats.hours, default=0)
    first = max(min(stats.hours, default=1), last - HOURS + 1)
    hours = [
        (
            f"{datetime.fromtimestamp(hour * HOUR_S).astimezone():%Y-%m-%d %H:%M%z}",
            stats.hours[hour],
        )
        for hour in range(first, last + 1)
    ]
    calls = [(*key, number) for key, number in stats.decisions.most_common()]
    steps = [(*key, number) for key, number in sorted(stats.steps.items())]
    _show_counts(console, ("endpoint", "decided by", "action", "calls"), calls)
    _show_counts(console, ("hour", "calls"), hours)
    _show_counts(console, ("plugin", "outcome", "steps"), steps)
    _show_counts(console, ("refused", "calls"), stats.refusals.most_common())
    if stats.times:
        times = ", ".join(f"{name} {ms:.3f}" for name, ms in stats.percentiles().items())
        console.print(f"\nmilliseconds in the server: {times}")


def _show_counts(console: Console, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Print rows whose last column is a number, with its share of the sum."""
    if not rows:
        return
    table = table_of(*names, "share", right=(names[-1], "share"))
    total = sum(row[-1] for row in rows) or 1
    for *cells, number in rows:
        table.add_row(*map(printable, cells), f"{number:,}", f"{number / total:.1%}")
    console.print()
    console.print(table)


# ---- chains


def show_verification(console: Console, verification: Verification, faults: int) -> None:
    """Print a line for each chain, with the anchor of its last line, and the number of faults."""
    for chain in verification.chains.values():
        end = f"{chain.last}:{chain.head.decode()}"
        texts = [f"chain {chain.boot_id}: {count(chain.lines, 'line')} from {chain.first} to {end}"]
        if not chain.has_ended:
            texts.append("no end: its server is running, or was killed")
        if chain.first > 1:
            missing = "line 1 is" if chain.first == 2 else f"lines 1 to {chain.first - 1} are"  # noqa: PLR2004 - the second line
            texts.append(
                f"starts at line {chain.first}; {missing} not in these files "
                "(rotated away or removed)"
            )
        if chain.lost:
            texts.append(f"{count(chain.lost, 'line')} lost, according to the server")
        if verification.verifier is not None:
            texts.append(_unsigned(chain))
        console.print(", ".join(texts), soft_wrap=True)
    counts = f"{count(verification.lines, 'line')}, {count(len(verification.chains), 'chain')}"
    console.print(f"{counts}, faults: {faults}", style="red" if faults else "green")


def _unsigned(chain: ChainState) -> str:
    # A checkpoint covers all lines before its own.
    unsigned = chain.last - (-1 if chain.signed_up_to is None else chain.signed_up_to) - 1
    if not unsigned:
        return "signed up to its last line"
    lines = "the last line is" if unsigned == 1 else f"the last {unsigned:,} lines are"
    return f"{lines} not covered by a signature yet"
