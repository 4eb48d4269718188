"""Audit lines, statistics and chains on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pexpolicy.audit.console import FAILURES, SEPARATOR, parts
from pexpolicy.audit.verify import ChainState, Verification
from pexpolicy.cli.audit.stats import Stats
from pexpolicy.cli.folding import INDENT, print_folded
from pexpolicy.models.difference import describe_changes
from pexpolicy.text import printable

STEP = ("plugin", "outcome", "ms", "detail")
ID_LENGTH = 13
"""Of a decision id on a terminal: its milliseconds, which are rarely those of another call."""
HOURS = 24
"""Hours in the statistics."""
SHARE_WIDTH, BAR_WIDTH = 6, 20
UNBOUNDED = 10_000
"""Columns where standard output is not a terminal."""
CHAIN_FIELDS = ("instance", "after", "prev", "lost_count", "boot_id", "seq", "hash")


def format_time(timestamp: object, *, utc: bool) -> str:
    """Return a timestamp of a line in local time with its offset, or in UTC."""
    try:
        at = datetime.fromisoformat(str(timestamp)).astimezone(UTC if utc else None)
    except (ValueError, OverflowError):
        return "?"
    text = at.replace(tzinfo=None).isoformat(" ", "seconds")
    return f"{text}Z" if utc else f"{text}{at:%z}"


def print_short(console: Console, event: Mapping[str, Any], *, utc: bool) -> None:
    """Print a line as on the terminal of a server, with the date and the decision id.

    On a terminal the id is shortened; ``audit show`` takes its beginning.
    """
    texts = [("dim", format_time(event.get("timestamp"), utc=utc)), *parts(event)]
    if decision_id := printable(event.get("decision_id") or ""):
        texts += [SEPARATOR, ("dim", decision_id[: ID_LENGTH if console.is_terminal else None])]
    print_folded(console, Text(" ").join(Text(text, style) for style, text in texts))


def screen() -> Console:
    """Return a console that does not fold lines, nor read markup in text of callers."""
    width = None if sys.stdout.isatty() else UNBOUNDED
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def show_whole(console: Console, event: Mapping[str, Any], *, utc: bool) -> None:
    """Print a row for each field, and a table of the steps.

    A terminal shows the values of the request and of what was sent one below the other; elsewhere
    each field is one line.
    """
    print_short(console, event, utc=utc)
    rows = [
        (name, value)
        for name, value in event.items()
        if name not in ("steps", "event", *CHAIN_FIELDS)
    ]
    has_anchor = "seq" in event and "hash" in event
    # A terminal shows the two only once, in the anchor.
    hidden = ("seq", "hash") if has_anchor and console.is_terminal else ()
    chain = " ".join(
        f"{name}={event[name]}" for name in CHAIN_FIELDS if name in event and name not in hidden
    )
    rows.append(("chain", chain))
    if has_anchor:
        rows.append(("anchor", f"{event['seq']}:{event['hash']}"))
    width = max(len(printable(name)) for name, _ in rows)
    for name, value in rows:
        inner = value.items() if isinstance(value, dict) and console.is_terminal else ()
        if console.is_terminal and value is None:
            continue
        text = "" if inner else _as_text(value)
        label = f"{printable(name):<{width}}  "
        line = Text.assemble((label, "dim"), text)
        if name == "anchor":
            # It is copied, so it is not broken into lines.
            console.print(line)
        else:
            print_folded(console, line, len(label))
        for key, part in inner:
            line = Text.assemble((f"  {printable(key)} = ", "dim"), _as_text(part))
            print_folded(console, line, INDENT * 2)
    listed = event.get("steps")
    listed = listed if isinstance(listed, list) else []
    if steps := [step for step in listed if isinstance(step, dict)]:
        _show_steps(console, steps)
        _show_changes(console, steps)


def _show_steps(console: Console, steps: list[dict[str, Any]]) -> None:
    if console.is_terminal:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in STEP:
            table.add_column(name, justify="right" if name == "ms" else "left")
        for step in steps:
            style = "red" if step.get("outcome") in FAILURES else ""
            texts = [Text(_as_text(step.get(name, ""))) for name in STEP]
            texts[1].stylize(style)
            table.add_row(*texts)
        console.print()
        console.print(table, soft_wrap=False)
        return
    rows = [STEP, *(tuple(_as_text(step.get(name, "")) for name in STEP) for step in steps)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        console.print(Text("  ".join(cells).rstrip(), "" if number else "bold"))


def _show_changes(console: Console, steps: list[dict[str, Any]]) -> None:
    """Print what each plugin changed, or gave to a merged decision."""
    for step in steps:
        changes, fields = step.get("changes"), step.get("fields")
        if isinstance(changes, dict):
            text = describe_changes({k: v for k, v in changes.items() if _is_change(v)})
        else:
            text = ", ".join(map(str, fields if isinstance(fields, list) else ()))
        if text:
            console.print(Text(f"{printable(step.get('plugin'))}: {printable(text)}"))


def _is_change(value: Any) -> bool:
    return isinstance(value, dict) and not value.keys().isdisjoint(("from", "to"))


def _as_text(value: Any) -> str:
    """Return a value as in the file; text without its quotes."""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def show_stats(console: Console, stats: Stats, *, utc: bool) -> None:
    """Print the figures as tables."""
    if not stats.lines:
        console.print(f"There are no lines to count; damaged: {stats.damaged}")
        return
    head = (
        f"{_count(stats.lines, 'line')} from {format_time(stats.first, utc=utc)} "
        f"to {format_time(stats.last, utc=utc)}; damaged: {stats.damaged}; "
        f"{_count(stats.lost, 'line')} lost, according to the servers"
    )
    print_folded(console, Text(head))
    tables: list[tuple[tuple[str, ...], list[tuple[Any, ...]]]] = [
        (
            ("endpoint", "decided by", "action", "calls"),
            [(*key, count) for key, count in stats.decisions.most_common()],
        ),
        (("hour", "calls"), _hours(stats, utc=utc)),
        (
            ("plugin", "outcome", "steps"),
            [(*key, count) for key, count in sorted(stats.outcomes.items())],
        ),
        (("refused", "calls"), stats.refusals.most_common()),
    ]
    for names, rows in tables:
        if rows:
            console.print()
            console.print(_figures(console, names, rows))
    if stats.times:
        times = ", ".join(f"p{p} {stats.percentile(p):.3f}" for p in (50, 95, 99))
        console.print(f"\nmilliseconds in the server: {times}")


def _hours(stats: Stats, *, utc: bool) -> list[tuple[str, int]]:
    """Return the calls of each of the last hours, those without a call among them."""
    if not stats.hours:
        return []
    zone = UTC if utc else None
    last = max(stats.hours)
    first = max(min(stats.hours), last - HOURS + 1)
    rows = []
    for hour in range(first, last + 1):
        at = datetime.fromtimestamp(hour * 3600, UTC).astimezone(zone)
        rows.append((f"{at:%Y-%m-%d %H}:{at:%M}{'Z' if utc else f'{at:%z}'}", stats.hours[hour]))
    return rows


def _figures(console: Console, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Table:
    """Return a table whose last column is a number, with its share of the sum and a bar.

    They are left out where they do not fit the terminal.
    """
    total, most = sum(row[-1] for row in rows), max(row[-1] for row in rows)
    shown = [(*map(printable, row[:-1]), f"{row[-1]:,}") for row in rows]
    width = sum(max(map(len, column)) + 2 for column in zip(names, *shown, strict=True))
    more = sum(console.width >= width + further for further in (SHARE_WIDTH, BAR_WIDTH + 8))
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name is names[-1] else "left")
    if more:
        table.add_column("share", justify="right")
    if more > 1:
        table.add_column("", style="cyan", no_wrap=True)
    block = "█" if console.encoding == "utf-8" else "#"
    for row, cells in zip(rows, shown, strict=True):
        share = f"{row[-1] / total:.1%}" if total else ""
        bar = block * -(-row[-1] * BAR_WIDTH // most) if most else ""
        table.add_row(*cells, *(share, bar)[:more])
    return table


def show_verification(console: Console, verification: Verification, faults: int) -> None:
    """Print a line for each chain, with the anchor of its last line, and the number of faults."""
    for chain in verification.chains.values():
        end = f"{chain.last}:{chain.head.decode()}"
        texts = [
            f"chain {chain.boot_id}: {_count(chain.lines, 'line')} from {chain.first} to {end}"
        ]
        if not chain.has_ended:
            texts.append("no end: its server is running, or was killed")
        if chain.first > 1:
            missing = "line 1 is" if chain.first == 2 else f"lines 1 to {chain.first - 1} are"  # noqa: PLR2004 - the second line
            texts.append(
                f"starts at line {chain.first}; {missing} not in these files "
                "(rotated away or removed)"
            )
        if chain.lost:
            texts.append(f"{_count(chain.lost, 'line')} lost, according to the server")
        if verification.verifier is not None:
            texts.append(_unsigned(chain))
        console.print(", ".join(texts))
    counts = f"{_count(verification.lines, 'line')}, {_count(len(verification.chains), 'chain')}"
    console.print(f"{counts}, faults: {faults}", style="red" if faults else "green")


def _unsigned(chain: ChainState) -> str:
    # A checkpoint covers all lines before its own.
    unsigned = chain.last - (-1 if chain.signed_up_to is None else chain.signed_up_to) - 1
    if not unsigned:
        return "signed up to its last line"
    lines = "the last line is" if unsigned == 1 else f"the last {unsigned:,} lines are"
    return f"{lines} not covered by a signature yet"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
