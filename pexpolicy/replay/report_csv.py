"""The groups of changes as CSV."""

from __future__ import annotations

import csv
import io

from pexpolicy.models.difference import describe_changes
from pexpolicy.replay.report_json import time_text
from pexpolicy.replay.result import Group, ReplayResult
from pexpolicy.text import printable

COLUMNS = (
    "group",
    "endpoint",
    "from_action",
    "to_action",
    "from_decided_by",
    "from_reason",
    "to_decided_by",
    "to_reason",
    "fields",
    "count",
    "partial",
    "share",
    "first",
    "last",
    "example",
    "example_url",
    "changes",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(result: ReplayResult) -> str:
    """Return a row for each selected group."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, group in enumerate(result.groups, 1):
        writer.writerow([_cell(value) for value in _row(number, group, result)])
    return text.getvalue()


def _row(number: int, group: Group, result: ReplayResult) -> tuple[object, ...]:
    key, example = group.key, group.example
    return (
        number,
        key.endpoint,
        key.old_action,
        key.new_action,
        key.old_by,
        key.old_reason,
        key.new_by,
        key.new_reason,
        " ".join(key.fields),
        group.count,
        group.partial,
        round(group.count / result.compared, 6),
        time_text(group.first),
        time_text(group.last),
        example.place,
        example.url,
        describe_changes(example.changes),
    )


def _cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula: callers choose some of the text."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
