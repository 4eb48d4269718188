"""The result of a replay as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pexpolicy.models.difference import describe_changes
from pexpolicy.replay import coverage_report
from pexpolicy.replay.records import Exactness
from pexpolicy.replay.report_json import ordered_reasons, ordered_verdicts
from pexpolicy.replay.result import Group, ReplayResult
from pexpolicy.text import printable

SHOWN_GROUPS = 20
SHOWN_REASONS = 8
SHOWN_CHANGES = 6
"""Changed fields of an example that are printed."""
MAX_VALUE = 200
"""Characters of a change that are printed."""
NAMES = {
    Exactness.EXACT: "exact",
    Exactness.PARTIAL: "partial",
    Exactness.NOT_REPLAYABLE: "not replayable",
    Exactness.UNREADABLE: "unreadable",
}
"""The classes of records in words."""
_STYLES = {Exactness.PARTIAL: "yellow", Exactness.UNREADABLE: "red"}


class TextReport:
    """Prints results; nothing of the records is markup."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)

    def show(self, result: ReplayResult, *, all_groups: bool = False) -> None:
        """Print the counts, the matrix of actions, and the groups of changes."""
        self._show_records(result)
        self._show_matrix(result)
        self._show_verdicts(result)
        shown = result.groups if all_groups else result.groups[:SHOWN_GROUPS]
        for number, group in enumerate(shown, 1):
            self._console.print()
            self.show_group(number, group, result)
        if left := len(result.groups) - len(shown):
            count = sum(group.count for group in result.groups[len(shown) :])
            self._console.print()
            self._line(f"and {left:,} more groups with {count:,} calls; --json has all of them")
        if result.covers:
            self._console.print()
            for line in coverage_report.lines(result.tally.items, result.tally.used):
                self._line(line.strip(), indent=len(line) - len(line.lstrip()))
        self._console.print()
        self._show_verdict(result)

    def _line(self, text: str, style: str = "", *, indent: int = 0) -> None:
        """Print a text, wrapped between words, and indented."""
        lines = Text(printable(text), style=style).wrap(self._console, self._console.width - indent)
        for line in lines:
            self._console.print(Text(" " * indent) + line)

    def _show_records(self, result: ReplayResult) -> None:
        tally = result.tally
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(justify="right")
        table.add_column()
        for kind in Exactness:
            count = tally.records[kind]
            style = _STYLES.get(kind, "") if count else "dim"
            table.add_row(Text(f"{count:,}", style=style), Text(NAMES[kind], style=style))
        self._line(f"{sum(tally.records.values()):,} records" + period(result), "bold")
        self._console.print(table)
        reasons = ordered_reasons(result)
        for (kind, why), count in reasons[:SHOWN_REASONS]:
            self._line(f"{NAMES[kind]}: {why} ({count:,})", _STYLES.get(kind, "dim"), indent=2)
        if len(reasons) > SHOWN_REASONS:
            self._line(f"and {len(reasons) - SHOWN_REASONS} more reasons", "dim", indent=2)
        for place, why in tally.places[:SHOWN_REASONS]:
            self._line(f"{place}: {why}", "red", indent=2)
        if tally.outside:
            self._line(f"{tally.outside:,} more are outside the period", "dim")
        for remark in result.remarks:
            self._line(f"note: {remark}", "yellow")

    def _show_matrix(self, result: ReplayResult) -> None:
        if not result.tally.matrix:
            return
        self._console.print()
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("endpoint", no_wrap=True)
        table.add_column("from")
        table.add_column("to")
        table.add_column("calls", justify="right", no_wrap=True)
        previous = ""
        for (endpoint, before, after), count in sorted(result.tally.matrix.items()):
            style = "" if before == after or not before else "yellow"
            name = endpoint if endpoint != previous else ""
            cells = (name, before or "(not recorded)", after, f"{count:,}")
            table.add_row(*(Text(printable(cell), style=style) for cell in cells))
            previous = endpoint
        self._console.print(table)

    def _show_verdicts(self, result: ReplayResult) -> None:
        verdicts = ordered_verdicts(result)
        if not verdicts:
            return
        self._console.print()
        self._line("local policy", "bold")
        for verdict, count in verdicts[:SHOWN_REASONS]:
            style = "red" if ": dropped: " in verdict else ""
            self._line(f"{verdict} ({count:,})", style, indent=2)
        if len(verdicts) > SHOWN_REASONS:
            self._line(f"and {len(verdicts) - SHOWN_REASONS} more", "dim", indent=2)

    def show_group(self, number: int, group: Group, result: ReplayResult) -> None:
        """Print one group of changes."""
        key, example = group.key, group.example
        share = f"{group.count / result.compared:.2%}"
        calls = "call" if group.count == 1 else "calls"
        action = key.new_action
        if key.old_action != key.new_action:
            action = f"{key.old_action} -> {key.new_action}"
        self._line(
            f"{number}. {group.count:,} {calls} ({share})  {key.endpoint}  {action}", "bold cyan"
        )
        for text in _sides(group):
            self._line(text, indent=3)
        self._line(f"changed: {', '.join(key.fields)}", "yellow", indent=3)
        if group.is_unnoticed:
            self._line("Infinity does not read these fields", "dim", indent=3)
        if group.first is not None:
            times = dict.fromkeys((local_time(group.first), local_time(group.last)))
            self._line(" to ".join(times), "dim", indent=3)
        if group.partial:
            self._line(f"{group.partial:,} of them partial", "yellow", indent=3)
        self._line(f"example {example.place}", "dim", indent=3)
        for name, change in list(example.changes.items())[:SHOWN_CHANGES]:
            text = describe_changes({name: change})
            text = text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"
            self._line(text, indent=5)
        if (more := len(example.changes) - SHOWN_CHANGES) > 0:
            self._line(f"and {more} more fields", indent=5)

    def _show_verdict(self, result: ReplayResult) -> None:
        tally = result.tally
        unnoticed = sum(group.count for group in result.groups if group.is_unnoticed)
        text = f"{tally.same:,} same, {tally.changed:,} changed"
        if result.compared:
            text += f" ({result.changed_share:.2%})"
        if result.selected != tally.changed:
            text += f", {result.selected:,} of them selected"
        if unnoticed:
            text += f", {unnoticed:,} in nothing that Infinity reads"
        if tally.uncompared:
            text += f", {tally.uncompared:,} without a reply to compare with"
        self._line(text, "bold yellow" if result.selected else "bold green")
        if tally.uncompared and not result.compared:
            self._line("name the other side with --against OLD.toml, or the URL of a server")


def period(result: ReplayResult) -> str:
    """Return the first and the last time of the calls, for a headline."""
    first, last = result.tally.first, result.tally.last
    if first is None or last is None:
        return ""
    return f", {local_time(first)} to {local_time(last)}"


def local_time(at: float | None) -> str:
    """Return a time in the zone of this machine."""
    return "" if at is None else f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _sides(group: Group) -> Iterator[str]:
    key = group.key
    before = _side(key.old_by, key.old_reason)
    after = _side(key.new_by, key.new_reason)
    if before == after:
        yield f"by {after}"
        return
    if before:
        yield f"was by {before}"
    yield f"now by {after}"


def _side(by: str, reason: str) -> str:
    return f"{by}: {reason}" if by and reason else by
