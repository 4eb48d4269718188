"""The pages of numbers: hits of rooms and rules, which the configuration on the disk has; and calls
by room, location and the like, by hour or day, and as CSV.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from io import StringIO
from itertools import pairwise
from typing import Any, NamedTuple

from aiohttp import web

from pexpolicy_console.context import Page, Response, Visit, attachment, whole_number
from pexpolicy_console.index.lines import RESULTS
from pexpolicy_console.index.reader import KINDS, IndexReader, Tally
from pexpolicy_console.login.sessions import Role
from pexpolicy_console.pages.chart import DAY_MS, SPANS, bounds, days, link, zone_of
from pexpolicy_console.periods import moment

Rule = Mapping[str, Any]
SHOWN = 100
"""Number of rooms or rules on a page."""
MAX_TIMES = 3000
"""Hours or days at once."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


class Hits(NamedTuple):
    """How often a rule or a room decided."""

    total: int = 0
    last: float = 0.0
    """Seconds since 1970."""
    path: str = ""
    """Bars of each day, 16 high, on the same square root scale for all."""


class Counted(NamedTuple):
    """Hits by name, between two moments in milliseconds; counted since the first line."""

    hits: Mapping[str, Hits]
    days: int
    start: int
    end: int
    first: int | None
    is_known: bool

    def of(self, name: str) -> Hits:
        """Return the hits of a name, or of a rule as reasons have it."""
        return self.hits.get(name) or self.hits.get(name.partition(": ")[0], Hits())


async def _counted(visit: Visit, kind: str) -> Counted:
    """Count the hits of the last days, 14 or as many as the URL has."""
    count = min(whole_number(visit.text("days")) or 14, 400)
    moments = days(count, time.time(), zone_of(visit))
    first = await visit.search(IndexReader.since)
    found = await visit.search(IndexReader.tallies, kind, moments)
    counted = found or []
    most = max((tally.total for day in counted for tally in day.values()), default=1)
    hits: dict[str, Hits] = {}
    for place, day in enumerate(counted):
        for name, tally in day.items():
            total, last, path = hits.get(name, Hits())
            height = 16 * math.sqrt(tally.total / most)
            path += f"M{place} 16v-{height:.1f}h.8v{height:.1f}z"
            hits[name] = Hits(total + tally.total, max(last, tally.last / 1000), path)
    return Counted(hits, count, moments[0], moments[-1], first, found is not None)


def _asked(visit: Visit) -> tuple[dict[str, Any], bool]:
    """Record a view; return what its URL asks for, and whether personal data is hidden."""
    text = visit.text("text")
    visit.record_view(text=text)
    asked = {name: visit.text(name) for name in ("show", "sort")}
    skip = whole_number(visit.text("skip"))
    shown = {"text": text, "skip": skip, "step": SHOWN, "link": link, **asked}
    return shown, visit.session.role < Role.OPERATOR


async def rooms(visit: Visit) -> Response:
    """List the rooms of the configuration on the disk, with their calls."""
    asked, hides = _asked(visit)
    counted, show = await _counted(visit, "room"), asked["show"]
    names = sorted(counted.hits, key=lambda name: -counted.hits[name].total)
    listed = await visit.dry_run(
        "rooms",
        text=asked["text"],
        skip=asked["skip"],
        limit=SHOWN,
        hides_personal=hides,
        called=names if show in ("hits", "unhit") else None,
        uncalled=show == "unhit",
    )
    return visit.render("rooms.html", listed=listed, counted=counted, **asked)


async def rules(visit: Visit) -> Response:
    """List the rules of the configuration on the disk, with their hits."""
    asked, hides = _asked(visit)
    listed: list[Rule] = await visit.dry_run("rules", hides_personal=hides) or []
    counted = await _counted(visit, "rule")
    kinds = {
        "": listed,
        "refusing": [rule for rule in listed if "reject" in rule["actions"]],
        "unhit": [rule for rule in listed if not counted.of(rule["name"]).total],
    }
    text, skip = asked["text"].lower(), asked["skip"]
    matching = [rule for rule in kinds.get(asked["show"], listed) if _matches(rule, text)]
    if asked["sort"] == "hits":
        matching.sort(key=lambda rule: -counted.of(rule["name"]).total)
    return visit.render(
        "rules.html",
        numbers={name: len(rules) for name, rules in kinds.items()},
        counted=counted,
        rules=matching[skip : skip + SHOWN],
        matching=len(matching),
        total=len(listed),
        **asked,
    )


def _matches(rule: Rule, text: str) -> bool:
    texts = (rule["name"], rule["condition"], rule["place"], *rule["endpoints"])
    return any(text in one.lower() for one in texts)


class Calls(NamedTuple):
    """The calls of one value in one hour, day or span."""

    start: int
    end: int
    value: str
    tally: Tally


def _moments(visit: Visit, first: int | None) -> list[int]:
    """Return the moments between which calls are counted; raise ``ValueError``."""
    query, now, zone, each = visit.request.query, time.time(), zone_of(visit), visit.text("each")
    if query.get("by", "room") not in KINDS or each not in ("", "hour", "day"):
        msg = f"by is one of {', '.join(KINDS)}, and each is hour, day or nothing"
        raise ValueError(msg)
    span = bounds(SPANS.get(visit.text("span"), SPANS["14d"]), now, zone)
    start, end = (
        int(at.timestamp() * 1000) if (at := moment(visit.text(name), str(zone))) else default
        for name, default in (("since", span[0]), ("until", min(span[-1], 1000 * int(now + 1))))
    )
    if start >= end:
        raise ValueError("the end is not after the beginning")
    if not each:
        return [start, end]
    # Before the first line there is nothing to count.
    start, step = min(max(start, first or 0), end - 1), DAY_MS if each == "day" else DAY_MS // 24
    if (end - start) // step > MAX_TIMES:
        msg = f"more than {MAX_TIMES} times: choose a shorter span, or days"
        raise ValueError(msg)
    inner: Iterable[int] = range(start // step * step, end, step)
    if each == "day":
        inner = days((end - start) // step + 2, end / 1000, zone)
    return [start, *(at for at in inner if start < at < end), end]


async def calls(visit: Visit) -> Response:
    """Show how many calls there were by what the URL names, or send all of it as CSV."""
    query, rows, moments, found = visit.request.query, list[Calls](), list[int](), None
    by = query.get("by", "room")
    visit.record_view(filters=dict(query))
    first = await visit.search(IndexReader.since)
    try:
        moments = _moments(visit, first)
        found = await visit.search(IndexReader.tallies, by, moments)
    except ValueError as error:
        visit.problems.append(str(error))
    if found is not None:
        rows = [
            Calls(start, end, value, tally)
            for (start, end), one in zip(pairwise(moments), found, strict=True)
            for value, tally in sorted(one.items(), key=lambda item: (-item[1].total, item[0]))
        ]
    if visit.request.path.endswith(".csv"):
        if found is None:
            return web.Response(status=400, text=f"{visit.problems[0]}\n")
        content = _as_csv(visit, rows, by)
        return attachment(content, f"calls-by-{by}.csv", "text/csv; charset=utf-8")
    return visit.render(
        "calls.html",
        is_known=found is not None,
        by=by,
        rows=rows,
        most=max((row.tally.total for row in rows), default=1),
        totals=[sum(row.tally.counts[kind] for row in rows) for kind in range(len(RESULTS))],
        asked=query,
        first=first,
        kinds=KINDS,
        link=link,
    )


def _as_csv(visit: Visit, rows: list[Calls], by: str) -> bytes:
    content, zone = StringIO(), zone_of(visit)
    writer = csv.writer(content)
    writer.writerow(("from", "until", by, *RESULTS, "total"))
    for row in rows:
        times = (datetime.fromtimestamp(at / 1000, zone).isoformat() for at in row[:2])
        value = f"'{row.value}" if row.value.startswith(FORMULA) else row.value
        writer.writerow((*times, value, *row.tally.counts, row.tally.total))
    return content.getvalue().encode()


PAGES = (
    Page("/rooms", rooms, "Rooms"),
    Page("/rules", rules, "Rules"),
    Page("/calls", calls),
    Page("/calls.csv", calls),
)
