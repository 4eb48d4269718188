"""The report of a replay: as text for a terminal and a page, as JSON, and as JUnit XML."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pexpolicy.models.difference import describe_changes
from pexpolicy.replay.records import Exactness
from pexpolicy.replay.result import Group, Period, ReplayResult
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
    coverage_objects,
    coverage_parts,
)

SHOWN_GROUPS = 20
SHOWN = 8
"""Reasons, places, and changed fields of an example that are shown; JSON has all."""
MAX_VALUE = 200
"""Characters of a change."""
_STYLES = {Exactness.PARTIAL: WARNING, Exactness.UNREADABLE: BAD}


def title(result: ReplayResult) -> str:
    """Return the number of records, and the time of their calls."""
    when = _times(result.tally)
    return f"{sum(result.tally.records.values()):,} records{', ' * bool(when)}{when}"


def parts(result: ReplayResult, *, full: bool = False) -> Iterator[Part]:
    """Yield the counts, the matrix of actions, and the groups of changes.

    ``full`` is for a page: more groups, the URL of each example, the files, and the coverage.
    """
    tally = result.tally
    if full:
        against = result.against or "the records"
        yield Line(f"{result.config} compared with {against}")
        yield Table(("file", "form"), result.files)
    yield from _records(result)
    if tally.matrix:
        yield Line("Actions", TITLE)
        yield _matrix(result)
    most = len(result.groups) if full else SHOWN_GROUPS
    for number, group in enumerate(result.groups[:most], 1):
        yield from _group(number, group, result, full=full)
    if others := result.groups[most:]:
        calls = sum(group.count for group in others)
        yield Line(f"and {len(others):,} more groups with {calls:,} calls; --json has all", TITLE)
    if tally.coverage is not None:
        yield Line("Coverage", TITLE)
        yield from coverage_parts(tally.coverage.items, tally.coverage.used, full=full)
    yield Line("Result", TITLE)
    yield from _verdict(result)


def _records(result: ReplayResult) -> Iterator[Part]:
    tally = result.tally
    yield Line(title(result), TITLE)
    counts = [(f"{tally.records[kind]:,}", _name(kind)) for kind in Exactness]
    styles = [_STYLES.get(kind, "") if tally.records[kind] else QUIET for kind in Exactness]
    yield Table((), counts, {0}, styles)
    for (kind, why), count in tally.reasons.most_common(SHOWN):
        yield Line(f"{_name(kind)}: {why} ({count:,})", _STYLES.get(kind, QUIET), 2)
    for place, why in tally.places[:SHOWN]:
        yield Line(f"{place}: {why}", BAD, 2)
    if tally.outside:
        yield Line(f"{tally.outside:,} more are outside the period", QUIET)
    yield from (Line(f"note: {remark}", WARNING) for remark in result.remarks)


def _matrix(result: ReplayResult) -> Table:
    rows = [
        (endpoint, before or "(not recorded)", after, f"{count:,}")
        for (endpoint, before, after), count in sorted(result.tally.matrix.items())
    ]
    styles = ["" if row[1] in (row[2], "(not recorded)") else WARNING for row in rows]
    return Table(("endpoint", "from", "to", "calls"), rows, {3}, styles)


def _group(number: int, group: Group, result: ReplayResult, *, full: bool) -> Iterator[Line]:
    key, example = group.key, group.example
    same = key.old_action == key.new_action
    action = key.new_action if same else f"{key.old_action} -> {key.new_action}"
    calls = f"{group.count:,} {'call' if group.count == 1 else 'calls'}"
    share = f"{group.count / result.compared:.2%}"
    yield Line(f"{number}. {calls} ({share})  {key.endpoint}  {action}", TITLE)
    before = ": ".join(filter(None, (key.old_by, key.old_reason)))
    after = ": ".join(filter(None, (key.new_by, key.new_reason)))
    if before and before != after:
        yield Line(f"was by {before}", indent=3)
    yield Line(f"by {after}" if before == after else f"now by {after}", indent=3)
    yield Line(f"changed: {', '.join(key.fields)}", WARNING, 3)
    if group.is_unnoticed:
        yield Line("Infinity does not read these fields", QUIET, 3)
    if when := _times(group):
        yield Line(when, QUIET, 3)
    if group.partial:
        yield Line(f"{group.partial:,} of them partial", WARNING, 3)
    call = f", decision {example.decision_id}" if example.decision_id else ""
    yield Line(f"example {example.place}{call}", QUIET, 3)
    if full:
        yield Line(example.url, QUIET, 3)
    for name, change in list(example.changes.items())[:SHOWN]:
        text = describe_changes({name: change})
        yield Line(text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…", indent=5)


def _verdict(result: ReplayResult) -> Iterator[Line]:
    tally = result.tally
    text = f"{tally.same:,} same, {tally.changed:,} changed"
    if result.compared:
        text += f" ({tally.changed / result.compared:.2%})"
    if result.selected != tally.changed:
        text += f", {result.selected:,} of them selected"
    if tally.uncompared:
        text += f", {tally.uncompared:,} without a reply to compare with"
    yield Line(text, WARNING if result.selected else GOOD)
    if tally.uncompared and not result.compared:
        yield Line("name the other side with --against OLD.toml, or the URL of a server")


def _name(kind: Exactness) -> str:
    return kind.replace("_", " ")


def _times(period: Period) -> str:
    """Return the first and the last time in the zone of this machine; empty if not known."""
    both = [
        f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S %Z}"
        for at in (period.first, period.last)
        if at is not None
    ]
    return " to ".join(dict.fromkeys(both))


def rows(result: ReplayResult) -> list[Row]:
    """Return a failed row for each group."""
    return [
        Row(
            group.key.endpoint,
            f"group {number}: {group.key.old_action} to {group.key.new_action}",
            ok=False,
            text=f"{group.count} calls change: {', '.join(group.key.fields)}",
            lines=(group.example.place, group.example.url, describe_changes(group.example.changes)),
        )
        for number, group in enumerate(result.groups, 1)
    ]


def as_json(result: ReplayResult) -> dict[str, Any]:
    """Return all figures, and each selected group with its example."""
    tally = result.tally
    return {
        "config": result.config,
        "against": result.against or None,
        "files": [{"file": name, "form": form} for name, form in result.files],
        "records": {str(kind): tally.records[kind] for kind in Exactness},
        "reasons": [
            {"class": str(kind), "reason": why, "count": count}
            for (kind, why), count in tally.reasons.most_common()
        ],
        "unreadable": [{"place": place, "reason": why} for place, why in tally.places],
        "outside_period": tally.outside,
        **_period(tally),
        "same": tally.same,
        "changed": tally.changed,
        "selected": result.selected,
        "share": round(result.share, 6),
        "not_compared": tally.uncompared,
        "matrix": [
            {"endpoint": endpoint, "from": before or None, "to": after, "count": count}
            for (endpoint, before, after), count in sorted(tally.matrix.items())
        ],
        "groups": [_group_object(n, group, result) for n, group in enumerate(result.groups, 1)],
        **({"coverage": _coverage(tally.coverage)} if tally.coverage is not None else {}),
        "remarks": list(result.remarks),
        "seconds": round(result.seconds, 3),
    }


def _coverage(coverage: Coverage) -> dict[str, Any]:
    return {
        "hooks": [
            {"plugin": plugin, "hook": hook, "steps": steps}
            for (plugin, hook), steps in sorted(coverage.steps.items())
            if steps
        ],
        "items": coverage_objects(coverage.items, coverage.used),
    }


def _group_object(number: int, group: Group, result: ReplayResult) -> dict[str, Any]:
    key, example = group.key, group.example
    sides = (
        (key.old_action, key.old_by, key.old_reason),
        (key.new_action, key.new_by, key.new_reason),
    )
    before, after = (
        {"action": action, "decided_by": by or None, "reason": reason or None}
        for action, by, reason in sides
    )
    return {
        "number": number,
        "endpoint": key.endpoint,
        "from": before,
        "to": after,
        "fields": list(key.fields),
        "count": group.count,
        "partial": group.partial,
        "share": round(group.count / result.compared, 6),
        **_period(group),
        "example": {
            **example._asdict(),
            "at": _utc(example.at),
            "decision_id": example.decision_id or None,
        },
    }


def _period(period: Period) -> dict[str, str | None]:
    return {"first": _utc(period.first), "last": _utc(period.last)}


def _utc(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
