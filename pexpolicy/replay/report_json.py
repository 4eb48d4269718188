"""The result of a replay as JSON."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from pexpolicy.replay.coverage_report import as_objects
from pexpolicy.replay.records import Exactness
from pexpolicy.replay.result import Group, ReplayResult


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
            for (kind, why), count in ordered_reasons(result)
        ],
        "unreadable": [{"place": place, "reason": why} for place, why in tally.places],
        "outside_period": tally.outside,
        "first": time_text(tally.first),
        "last": time_text(tally.last),
        "same": tally.same,
        "changed": tally.changed,
        "selected": result.selected,
        "share": round(result.share, 6),
        "not_compared": tally.uncompared,
        "matrix": [
            {"endpoint": endpoint, "from": before or None, "to": after, "count": count}
            for (endpoint, before, after), count in sorted(tally.matrix.items())
        ],
        **(
            {
                "local_policy": [
                    {"verdict": verdict, "count": count}
                    for verdict, count in ordered_verdicts(result)
                ]
            }
            if tally.verdicts
            else {}
        ),
        "groups": [_group(number, group, result) for number, group in enumerate(result.groups, 1)],
        **({"coverage": _coverage(result)} if result.covers else {}),
        "remarks": list(result.remarks),
        "seconds": round(result.seconds, 3),
    }


def ordered_reasons(result: ReplayResult) -> list[tuple[tuple[Exactness, str], int]]:
    """Return why records are not exact, the most frequent reasons first."""
    return sorted(result.tally.reasons.items(), key=lambda item: (-item[1], item[0]))


def ordered_verdicts(result: ReplayResult) -> list[tuple[str, int]]:
    """Return what nodes made of the output of their scripts, the most frequent first."""
    return sorted(result.tally.verdicts.items(), key=lambda item: (-item[1], item[0]))


def time_text(at: float | None) -> str | None:
    """Return a time in UTC as text."""
    return (
        None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    )


def _coverage(result: ReplayResult) -> dict[str, Any]:
    hooks: dict[tuple[str, str], Counter[str]] = {}
    for (_, plugin, hook, outcome), count in sorted(result.tally.steps.items()):
        hooks.setdefault((plugin, hook), Counter())[outcome] += count
    return {
        "hooks": [
            {"plugin": p, "hook": h, "steps": dict(found)} for (p, h), found in hooks.items()
        ],
        "items": as_objects(result.tally.items, result.tally.used),
    }


def _group(number: int, group: Group, result: ReplayResult) -> dict[str, Any]:
    key, example = group.key, group.example
    return {
        "number": number,
        "endpoint": key.endpoint,
        "from": {
            "action": key.old_action,
            "decided_by": key.old_by or None,
            "reason": key.old_reason or None,
        },
        "to": {
            "action": key.new_action,
            "decided_by": key.new_by,
            "reason": key.new_reason or None,
        },
        "fields": list(key.fields),
        "count": group.count,
        "partial": group.partial,
        "share": round(group.count / result.compared, 6),
        "first": time_text(group.first),
        "last": time_text(group.last),
        "example": {
            "place": example.place,
            "at": time_text(example.at),
            "decision_id": example.decision_id or None,
            "peer": example.peer,
            "url": example.url,
            "missing": list(example.missing),
            "changes": example.changes,
        },
    }
