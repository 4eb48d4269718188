"""The result of a replay as one HTML page, with charts, that needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from pexpolicy.replay import coverage_report
from pexpolicy.replay.charts import bars, share_bar, timeline
from pexpolicy.replay.html_page import page, table, text
from pexpolicy.replay.records import Exactness
from pexpolicy.replay.report_json import ordered_reasons, ordered_verdicts, time_text
from pexpolicy.replay.report_text import NAMES
from pexpolicy.replay.result import Group, ReplayResult
from pexpolicy.text import printable

MAX_SHOWN = 500
"""Groups on the page; JSON and CSV have all of them."""


def as_html(result: ReplayResult) -> str:
    """Return the page."""
    return page(f"Replay of {sum(result.tally.records.values()):,} records", _sections(result))


def _sections(result: ReplayResult) -> Iterator[str]:
    yield from _introduction(result)
    yield from _tiles(result)
    yield from _timeline(result)
    yield from _matrix(result)
    yield from _verdicts(result)
    yield from _groups(result)
    if result.covers:
        yield from coverage_report.sections(result.tally.items, result.tally.used)
    yield from _records(result)


def _introduction(result: ReplayResult) -> Iterator[str]:
    other = (
        f"compared with {text(result.against)}" if result.against else "compared with the records"
    )
    when = _period(result.tally.first, result.tally.last)
    yield f"<p><code>{text(result.config)}</code> {other}{text(when and f', {when}')}</p>"
    for remark in result.remarks:
        yield f'<p class="note">{text(remark)}</p>'


def _tiles(result: ReplayResult) -> Iterator[str]:
    tally = result.tally
    tiles = [
        ("same", f"{tally.same:,}", "same"),
        ("changed", f"{tally.changed:,}", f"changed ({result.changed_share:.2%})"),
    ]
    if tally.uncompared:
        tiles.append(("", f"{tally.uncompared:,}", "without a reply to compare with"))
    tiles += [("", f"{tally.records[kind]:,}", NAMES[kind]) for kind in Exactness]
    yield '<div class="tiles">'
    for name, number, label in tiles:
        yield f'<div class="tile {name}"><b>{number}</b><span>{text(label)}</span></div>'
    yield "</div>"


def _timeline(result: ReplayResult) -> Iterator[str]:
    if not result.tally.by_hour:
        return
    found, step = bars(result.tally.by_hour, result.tally.changed_by_hour)
    length = f"{step // 24} d" if step >= 24 else f"{step} h"  # noqa: PLR2004 - hours of a day
    yield "<h2>Calls over time</h2>"
    yield (
        '<p class="legend"><i class="same"></i>same<i class="changed"></i>changed'
        f"<span>a bar is {length}, in UTC</span></p>"
    )
    yield f'<div class="scroll">{timeline(found, step)}</div>'


def _matrix(result: ReplayResult) -> Iterator[str]:
    matrix = result.tally.matrix
    if not matrix:
        return
    total = sum(matrix.values())

    def rows() -> Iterator[Sequence[str]]:
        previous = ""
        for (endpoint, before, after), count in sorted(matrix.items()):
            kind = "same" if before == after or not before else "changed"
            name = text(endpoint) if endpoint != previous else ""
            previous = endpoint
            bar = share_bar([(kind, count)], total)
            yield name, text(before or "(not recorded)"), text(after), f"{count:,}", bar

    yield "<h2>Actions</h2>"
    yield table(("endpoint", "from", "to", "calls", "share of all calls"), rows(), (3,))


def _verdicts(result: ReplayResult) -> Iterator[str]:
    if verdicts := ordered_verdicts(result):
        yield "<h2>Local policy</h2>"
        rows = [(text(verdict), f"{count:,}") for verdict, count in verdicts]
        yield table(("what the node makes of the output", "calls"), rows, (1,))


def _groups(result: ReplayResult) -> Iterator[str]:
    count = len(result.groups)
    yield f"<h2>Changes ({count:,} group{'s' * (count != 1)})</h2>"
    if not result.groups:
        yield "<p>No answer changes.</p>"
    for number, group in enumerate(result.groups[:MAX_SHOWN], 1):
        yield from _group(number, group, result)
    if (left := len(result.groups) - MAX_SHOWN) > 0:
        yield f"<p>{left:,} more groups are in the reports as JSON and CSV.</p>"


def _group(number: int, group: Group, result: ReplayResult) -> Iterator[str]:
    key, example = group.key, group.example
    action = text(key.new_action)
    if key.old_action != key.new_action:
        action = f"{text(key.old_action)} → <b>{action}</b>"
    yield '<section class="group">'
    yield (
        f"<h3><span>{number}</span> {text(key.endpoint)}: {action}</h3>"
        f"{share_bar([('changed', group.count)], result.compared)}"
    )
    share = group.count / result.compared
    facts = [f"{group.count:,} {'call' if group.count == 1 else 'calls'} ({share:.2%})"]
    if when := _period(group.first, group.last):
        facts.append(when)
    if group.partial:
        facts.append(f"{group.partial:,} of them partial")
    if group.is_unnoticed:
        facts.append("Infinity does not read these fields")
    yield f"<p>{text(', '.join(facts))}</p>"
    rows = [
        (text(name), _value(change, "from"), _value(change, "to"))
        for name, change in example.changes.items()
    ]
    sides = [
        ("deciding plugin", text(key.old_by or "not recorded"), text(key.new_by)),
        ("reason", text(key.old_reason), text(key.new_reason)),
    ]
    rows += [row for row in sides if row[1] != row[2] and row[0].split()[-1] not in example.changes]
    yield table(("field of the example", "from", "to"), rows)
    yield (
        f"<details><summary>example {text(example.place)}</summary>"
        f"<p class=url>{escape(printable(example.url))}</p></details></section>"
    )


def _period(first: float | None, last: float | None) -> str:
    """Return two times as text; empty if they are not known."""
    texts = [time_text(at) for at in (first, last)]
    return " to ".join(f"{at[:10]} {at[11:19]} UTC" for at in texts if at is not None)


def _value(change: dict[str, Any], side: str) -> str:
    if side not in change:
        return '<i class="unset">not set</i>'
    value = change[side]
    return text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _records(result: ReplayResult) -> Iterator[str]:
    yield "<h2>Records</h2>"
    yield table(("file", "form"), [(text(name), text(form)) for name, form in result.files])
    if reasons := ordered_reasons(result):
        rows = [(NAMES[kind], text(why), f"{count:,}") for (kind, why), count in reasons]
        yield table(("class", "reason", "records"), rows, (2,))
    if result.tally.places:
        yield table(("unreadable", "why"), [(text(p), text(w)) for p, w in result.tally.places])
