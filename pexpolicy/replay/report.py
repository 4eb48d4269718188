"""The report of a replay: as text for a terminal and a page, as JSON, and as JUnit XML."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pexpolicy.models.difference import describe_changes
from pexpolicy.replay.records import Exactness
from pexpolicy.replay.run import Group, Period, ServerAddress, Tally
from pexpolicy.testing.coverage import Coverage
from pexpolicy.testing.report import (
    BAD,
    GOOD,
    QUIET,
    TITLE,
    WARNING,
    Line,
    Part,
    Row,
    Table,
    coverage_parts,
)

SHOWN_GROUPS = 20
SHOWN = 8
"""Reasons, places, and changed fields of an example that are shown; JSON has all."""


def title(tally: Tally) -> str:
    """Return the number of records, and the time of their calls."""
    when = _times(tally)
    return f"{sum(tally.records.values()):,} records{', ' * bool(when)}{when}"


def parts(tally: Tally) -> Iterator[Part]:
    """Yield the counts, the matrix of actions, the groups of changes, and the coverage."""
    yield from _records(tally)
    if tally.matrix:
        yield Line("Actions", TITLE)
        yield _matrix(tally)
    groups = tally.selected
    for number, group in enumerate(groups[:SHOWN_GROUPS], 1):
        yield from _group(number, group, tally)
    if others := groups[SHOWN_GROUPS:]:
        yield Line(f"and {len(others):,} more groups; --json has all", TITLE)
    if tally.coverage is not None:
        yield Line("Coverage", TITLE)
        yield from coverage_parts(tally.coverage)
    yield Line("Result", TITLE)
    yield from _verdict(tally)


def _records(tally: Tally) -> Iterator[Part]:
    yield Line(title(tally), TITLE)
    for kind in Exactness:
        yield Line(f"{tally.records[kind]:,} {_name(kind)}")
    for (kind, why), count in tally.reasons.most_common(SHOWN):
        yield Line(f"{_name(kind)}: {why} ({count:,})", WARNING, 2)
    for damaged in tally.places[:SHOWN]:
        yield Line(": ".join(damaged.values()), BAD, 2)
    if tally.outside:
        yield Line(f"{tally.outside:,} more are outside the period", QUIET)
    yield from (Line(f"note: {remark}", WARNING) for remark in _remarks(tally))


def _remarks(tally: Tally) -> list[str]:
    is_server = isinstance(tally.job.against, ServerAddress)
    return ["the server answers at the present time, and not at that of the records"] * is_server


def _matrix(tally: Tally) -> Table:
    rows = [
        (endpoint, before or "(not recorded)", after, f"{count:,}")
        for (endpoint, before, after), count in sorted(tally.matrix.items())
    ]
    return Table(("endpoint", "from", "to", "calls"), rows, ("calls",))


def _group(number: int, group: Group, tally: Tally) -> Iterator[Line]:
    key, example = group.key, group.example
    action = " -> ".join(dict.fromkeys((key.old.action, key.new.action)))
    calls = f"{group.count:,} {'call' if group.count == 1 else 'calls'}"
    share = f"{group.count / tally.compared:.2%}"
    yield Line(f"{number}. {calls} ({share})  {key.endpoint}  {action}", TITLE)
    before, after = (": ".join(filter(None, side[1:])) for side in (key.old, key.new))
    if before and before != after:
        yield Line(f"was by {before}", indent=3)
    yield Line(f"by {after}" if before == after else f"now by {after}", indent=3)
    yield Line(f"changed: {', '.join(key.fields)}", WARNING, 3)
    if when := _times(group):
        yield Line(when, QUIET, 3)
    if group.partial:
        yield Line(f"{group.partial:,} of them partial", WARNING, 3)
    call = f", decision {example.decision_id}" if example.decision_id else ""
    yield Line(f"example {example.place}{call}", QUIET, 3)
    yield Line(example.url, QUIET, 3)
    for name, change in list(example.changes.items())[:SHOWN]:
        yield Line(describe_changes({name: change}), indent=5)


def _verdict(tally: Tally) -> Iterator[Line]:
    text = f"{tally.same:,} same, {tally.changed:,} changed"
    if tally.compared:
        text += f" ({tally.changed / tally.compared:.2%})"
    selected = sum(group.count for group in tally.selected)
    if selected != tally.changed:
        text += f", {selected:,} of them selected"
    if tally.uncompared:
        text += f", {tally.uncompared:,} without a reply to compare with"
    yield Line(text, WARNING if selected else GOOD)
    if tally.uncompared and not tally.compared:
        yield Line("name the other side with --against OLD.toml, or the URL of a server")


def _name(kind: Exactness) -> str:
    return kind.replace("_", " ")


def _times(period: Period) -> str:
    """Return the first and the last time in the zone of this machine; empty if not known."""
    both = [
        f"{at.astimezone():%Y-%m-%d %H:%M:%S %Z}"
        for at in (period.first, period.last)
        if at is not None
    ]
    return " to ".join(dict.fromkeys(both))


def rows(tally: Tally) -> list[Row]:
    """Return a failed row for each group."""
    return [
        Row(
            group.key.endpoint,
            f"group {number}: {group.key.old.action} to {group.key.new.action}",
            ok=False,
            text=f"{group.count} calls change: {', '.join(group.key.fields)}",
            lines=(group.example.place, group.example.url, describe_changes(group.example.changes)),
        )
        for number, group in enumerate(tally.selected, 1)
    ]


def as_json(tally: Tally) -> dict[str, Any]:
    """Return all figures, and each selected group with its example."""
    return {
        "config": str(tally.job.config),
        "against": str(tally.job.against) if tally.job.against else None,
        "files": tally.files,
        "records": {str(kind): tally.records[kind] for kind in Exactness},
        "reasons": [
            {"class": str(kind), "reason": why, "count": count}
            for (kind, why), count in tally.reasons.most_common()
        ],
        "unreadable": tally.places,
        "outside_period": tally.outside,
        **_period(tally),
        "same": tally.same,
        "changed": tally.changed,
        "selected": sum(group.count for group in tally.selected),
        "share": round(tally.share, 6),
        "not_compared": tally.uncompared,
        "matrix": [
            {"endpoint": endpoint, "from": before or None, "to": after, "count": count}
            for (endpoint, before, after), count in sorted(tally.matrix.items())
        ],
        "groups": [_group_object(n, group, tally) for n, group in enumerate(tally.selected, 1)],
        **({} if tally.coverage is None else {"coverage": _coverage(tally.coverage)}),
        "remarks": _remarks(tally),
        "seconds": round(tally.seconds, 3),
    }


def _coverage(coverage: Coverage) -> dict[str, Any]:
    hooks = [
        {"plugin": plugin, "hook": hook, "steps": steps}
        for (plugin, hook), steps in sorted(coverage.steps.items())
        if steps
    ]
    return {"hooks": hooks, "items": coverage.objects()}


def _group_object(number: int, group: Group, tally: Tally) -> dict[str, Any]:
    key, example = group.key, group.example
    return {
        "number": number,
        "endpoint": key.endpoint,
        "from": key.old._asdict(),
        "to": key.new._asdict(),
        "fields": list(key.fields),
        "count": group.count,
        "partial": group.partial,
        "share": round(group.count / tally.compared, 6),
        **_period(group),
        "example": {**example._asdict(), "at": _utc(example.at)},
    }


def _period(period: Period) -> dict[str, str | None]:
    return {"first": _utc(period.first), "last": _utc(period.last)}


def _utc(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")
