"""The page of numbers: calls by room, location and the like, by hour or day, and as CSV."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from io import StringIO
from itertools import pairwise
from typing import NamedTuple

from aiohttp import hdrs, web

from pexpolicy_console.context import console_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.lines import RESULTS
from pexpolicy_console.index.numbers import KINDS, Tally, since, tallies
from pexpolicy_console.pages.chart import DAY_MS, SPANS, bounds, days, link, zone_of
from pexpolicy_console.pages.page import Page, record_view, render
from pexpolicy_console.periods import moment

MAX_TIMES = 3000
"""Hours or days at once."""
SHOWN = 500
"""Rows on the page; the CSV has all."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


class Row(NamedTuple):
    """The calls of one value in one hour, day or span."""

    start: int
    end: int
    value: str
    tally: Tally


def _moments(request: web.Request, first: int | None) -> list[int]:
    """Return the moments between which calls are counted; raise ``ValueError``."""
    query, now, zone = request.query, time.time(), zone_of(request)
    each = query.get("each", "")
    if query.get("by", "room") not in KINDS or each not in ("", "hour", "day"):
        msg = f"by is one of {', '.join(KINDS)}, and each is hour, day or nothing"
        raise ValueError(msg)
    span = bounds(SPANS.get(query.get("span", ""), SPANS["14d"]), now, zone)
    start, end = (
        int(at.timestamp() * 1000) if (at := moment(query.get(name, ""), str(zone))) else default
        for name, default in (("since", span[0]), ("until", min(span[-1], 1000 * int(now + 1))))
    )
    if start >= end:
        raise ValueError("the end is not after the beginning")
    hour = DAY_MS // 24
    # Before the first line there is nothing to count.
    start = min(max(start, first or 0), end - 1) if each else start
    if (end - start) // (DAY_MS if each == "day" else hour) > MAX_TIMES and each:
        msg = f"more than {MAX_TIMES} times: choose a shorter span, or days"
        raise ValueError(msg)
    inner: Iterable[int] = range(start // hour * hour, end, hour) if each else ()
    if each == "day":
        inner = days((end - start) // DAY_MS + 2, end / 1000, zone)
    return [start, *(at for at in inner if start < at < end), end]


async def calls(request: web.Request) -> web.StreamResponse:
    """Show how many calls there were by what the URL names, or send all of it as CSV."""
    is_csv, by = request.path.endswith(".csv"), request.query.get("by", "room")
    index, rows, problem, first = console_of(request).index, list[Row](), "", None
    record_view(request, filters=dict(request.query))
    try:
        first = await index.ask(since)
        moments = _moments(request, first)
        found = await index.ask(partial(tallies, kind=by, bounds=moments))
        rows = [
            Row(start, end, value, tally)
            for (start, end), one in zip(pairwise(moments), found, strict=True)
            for value, tally in sorted(one.items(), key=lambda item: (-item[1].total, item[0]))
        ]
    except (ValueError, IndexUnavailable) as error:
        problem = str(error)
    if is_csv:
        return web.Response(status=400, text=f"{problem}\n") if problem else _as_csv(request, rows)
    return render(
        request,
        "calls.html",
        problem=problem,
        by=by,
        rows=rows[:SHOWN],
        left_out=max(len(rows) - SHOWN, 0),
        most=max((row.tally.total for row in rows), default=1),
        totals=[sum(row.tally.counts[kind] for row in rows) for kind in range(len(RESULTS))],
        asked=request.query,
        first=first,
        kinds=KINDS,
        link=link,
    )


def _as_csv(request: web.Request, rows: list[Row]) -> web.Response:
    content, zone, by = StringIO(), zone_of(request), request.query.get("by", "room")
    writer = csv.writer(content)
    writer.writerow(("from", "until", by, *RESULTS, "total"))
    for row in rows:
        times = (datetime.fromtimestamp(at / 1000, zone).isoformat() for at in row[:2])
        value = f"'{row.value}" if row.value.startswith(FORMULA) else row.value
        writer.writerow((*times, value, *row.tally.counts, row.tally.total))
    name = f'attachment; filename="calls-by-{by}.csv"'
    headers = {hdrs.CONTENT_TYPE: "text/csv; charset=utf-8", hdrs.CONTENT_DISPOSITION: name}
    return web.Response(body=content.getvalue().encode(), headers=headers)


PAGES = (Page("/calls", calls), Page("/calls.csv", calls))
