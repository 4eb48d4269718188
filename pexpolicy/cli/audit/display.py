"""Audit lines on a terminal: one line for each call, and all of one call."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pexpolicy.audit.console import SEPARATOR, parts
from pexpolicy.audit.verify import ChainState
from pexpolicy.cli.audit.stats import Stats
from pexpolicy.text import printable

STEP = ("plugin", "outcome", "ms", "detail")
UNBOUNDED = 10_000
"""Columns of a screen that nobody looks at."""
SEAL = ("instance", "prev", "lost_count", "boot_id", "seq", "hash")


def local_time(event: Mapping[str, Any]) -> str:
    """When a line was written, in the time of this machine."""
    try:
        return f"{datetime.fromisoformat(event['timestamp']).astimezone():%Y-%m-%d %H:%M:%S}"
    except (KeyError, TypeError, ValueError):
        return "?"


def short(event: Mapping[str, Any]) -> Text:
    """One line: what a terminal shows while it is written, with the date and the decision id."""
    told = [("dim", local_time(event)), *parts(event)]
    if event.get("decision_id"):
        told += [SEPARATOR, ("dim", printable(event["decision_id"]))]
    return Text(" ").join(Text(text, style) for style, text in told)


def screen() -> Console:
    """Where lines are shown: as wide as they are, where programs read them."""
    return Console(
        highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else UNBOUNDED
    )


def show_whole(console: Console, event: Mapping[str, Any]) -> None:
    """Everything that a line says, a row for each field, and a table of the steps.

    Nothing is folded, on a terminal either: a hash is there to be copied.
    """
    console.print(short(event))
    rows = [(name, value) for name, value in event.items() if name not in ("steps", "event", *SEAL)]
    rows.append(("seal", " ".join(f"{name}={event[name]}" for name in SEAL if name in event)))
    if "seq" in event and "hash" in event:
        rows.append(("anchor", f"{event['seq']}:{event['hash']}"))
    width = max(len(printable(name)) for name, _ in rows)
    for name, value in rows:
        console.print(Text.assemble((f"{printable(name):<{width}}  ", "dim"), _written(value)))
    if steps := [step for step in event.get("steps") or () if isinstance(step, dict)]:
        _show_steps(console, steps)


def _show_steps(console: Console, steps: list[dict[str, Any]]) -> None:
    rows = [STEP, *(tuple(_written(step.get(name, "")) for name in STEP) for step in steps)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        console.print(Text("  ".join(cells).rstrip(), "" if number else "bold"))


def _written(value: Any) -> str:
    """A value as the file has it; text without its quotes."""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def show_stats(console: Console, stats: Stats) -> None:
    """The figures as tables."""
    console.print(
        f"{stats.lines:,} lines from {_clean(stats.first)} to {_clean(stats.last)}; "
        f"damaged: {stats.damaged}; lost, as the writers say: {stats.lost}"
    )
    tables: list[tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]] = [
        (
            ("endpoint", "decided by", "action", "calls"),
            [(*key, count) for key, count in stats.decisions.most_common()],
        ),
        (
            ("plugin", "outcome", "steps"),
            [(*key, count) for key, count in sorted(stats.outcomes.items())],
        ),
        (("refused", "calls"), stats.refusals.most_common()),
    ]
    for heads, rows in tables:
        if found := list(rows):
            table = Table(*heads, box=None, pad_edge=False)
            for row in found:
                table.add_row(*(_clean(cell) for cell in row))
            console.print(table)
    times = ", ".join(f"p{p} {stats.percentile(p):.3f}" for p in (50, 95, 99))
    console.print(f"milliseconds in the server: {times}")


def show_chains(console: Console, chains: Iterable[ChainState], *, signed: bool) -> None:
    """A line for each chain; the number and hash at its end are what ``--anchor`` takes."""
    for chain in chains:
        end = f"{chain.last}:{chain.head.decode()}"
        lines = f"{chain.lines:,} line{'s' * (chain.lines != 1)}"
        said = [f"chain {chain.boot_id}: {lines} from {chain.first} to {end}"]
        if not chain.has_ended:
            said.append("without an end: still writing, or killed")
        if chain.first > 1:
            said.append(f"begins at {chain.first}: the lines up to {chain.first - 1} are elsewhere")
        if chain.lost:
            said.append(f"{chain.lost} lost, as it says")
        if signed:
            unsigned = chain.last - (chain.signed_up_to or 0)
            said.append(f"{unsigned} after the last line that is signed")
        console.print(", ".join(said), soft_wrap=True)


def _clean(value: object) -> str:
    """Text that commands neither the terminal nor rich."""
    return escape(printable(value))
