"""Reports about coverage: as lines, JSON and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from pexpolicy.explain.coverage import CoverageItem
from pexpolicy.replay.charts import share_bar
from pexpolicy.replay.html_page import page, table, text

SHOWN = 10
"""Names that are printed of those that were never used."""
MAX_LISTED = 1_000
"""Names of each kind on a page."""

Items = Sequence[CoverageItem]
Used = Mapping[CoverageItem, int]


def by_kind(items: Items, used: Used) -> Iterator[tuple[str, str, Items, Items]]:
    """Yield plugin, kind, the items that decided, and those that never did."""
    for (plugin, kind), found in groupby(sorted(items), lambda item: item[:2]):
        of_kind = list(found)
        deciding = [item for item in of_kind if used.get(item)]
        yield plugin, kind, deciding, [item for item in of_kind if not used.get(item)]


def lines(items: Items, used: Used) -> Iterator[str]:
    """Yield a line for each kind, and the first names that were never used."""
    if not items:
        yield "no plugin lists what it decides by"
    for plugin, kind, deciding, never in by_kind(items, used):
        count = len(deciding) + len(never)
        noun = kind if count == 1 else f"{kind}{'es' if kind.endswith('ch') else 's'}"
        yield f"{plugin}: {len(deciding):,} of {count:,} {noun} used ({len(deciding) / count:.0%})"
        if never:
            names = ", ".join(item.name for item in never[:SHOWN])
            more = f" and {len(never) - SHOWN:,} more" if len(never) > SHOWN else ""
            yield f"  never used: {names}{more}"


def as_objects(items: Items, used: Used) -> list[dict[str, Any]]:
    """Return an object for each item, with the number of its decisions."""
    return [
        {"plugin": item.plugin, "kind": item.kind, "name": item.name, "decided": used.get(item, 0)}
        for item in items
    ]


def sections(items: Items, used: Used) -> Iterator[str]:
    """Yield the coverage as HTML."""
    yield "<h2>Coverage</h2>"
    if not items:
        yield "<p>No plugin lists what it decides by.</p>"
    for plugin, kind, deciding, never in by_kind(items, used):
        count = len(deciding) + len(never)
        yield f"<section class=group><h3>{text(plugin)}: {text(kind)}</h3>"
        yield share_bar([("same", len(deciding))], count)
        yield f"<p>{len(deciding):,} of {count:,} used ({len(deciding) / count:.1%})</p>"
        often = sorted(deciding, key=lambda item: (-used[item], item))
        rows = [(text(item.name), f"{used[item]:,}") for item in often]
        for title, found in (("used", rows), ("never used", [(text(i.name), "0") for i in never])):
            if found:
                shown = table(("name", "decisions"), found[:MAX_LISTED], (1,))
                yield f"<details><summary>{len(found):,} {title}</summary>{shown}"
                if (more := len(found) - MAX_LISTED) > 0:
                    yield f"<p>{more:,} more are in the report as JSON.</p>"
                yield "</details>"
        yield "</section>"


def as_page(title: str, items: Items, used: Used) -> str:
    """Return the coverage as a page of its own."""
    return page(title, sections(items, used))
