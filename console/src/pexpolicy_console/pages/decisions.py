"""The page Decisions: the audit lines, the newest first, with filters; and what an open page asks
for: newer lines, and the state of the server.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp_jinja2
from aiohttp import web

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy_console.context import Page, Response, Visit, whole_number
from pexpolicy_console.index.lines import RESULTS, Event, text_of
from pexpolicy_console.index.query import FILTERS, Query
from pexpolicy_console.index.reader import Hit, IndexReader
from pexpolicy_console.pages.chart import DAY_MS, columns

PAGE_SIZE = 100
FIELDS = {
    "called": "Called alias",
    "caller": "Caller",
    **{name: title for name, (_, title) in FILTERS.items()},
    "slower": "Slower than, ms",
}
COUNTERS = ("result", "reason", "decided_by", "location", "policy", "node", "instance", "endpoint")
"""The columns whose values are counted next to the list, in its order."""
BARS = 60
"""Of the histogram."""
HEIGHTS = (26, 12)
"""Of the columns of its two plots, in pixels."""
END = 1 << 50
"""A time after each line, in milliseconds."""
MAX_ROWS = 25
"""Newer rows that an open page gets at once; further ones are counted."""


class Outcome(NamedTuple):
    """What became of a call, for people: its icon, a word, and the class of its colour."""

    icon: str
    word: str
    style: str


_STYLES = zip(RESULTS, ("ok", "refuse", "trouble"), strict=True)
OUTCOMES = {name: Outcome(name, name, style) for name, style in _STYLES}
EVENTS = {
    "refused": Outcome("failed", "no answer", "trouble"),
    "reload": Outcome("reload", "reload", "ok"),
    "end": Outcome("stopped", "stopped", "stopped"),
}
NOT_RELOADED = Outcome("failed", "not reloaded", "trouble")
"""Of lines that are no decisions."""


class Row:
    """What the list shows of a line."""

    def __init__(self, hit: Hit) -> None:
        event: Event = hit.event or {}
        parts = (event.get(name) for name in ("request", "sent"))
        request, sent = (part if isinstance(part, dict) else {} for part in parts)
        self.id = hit.id
        self.at = hit.at / 1000
        """Seconds since 1970."""
        self.call = hit.call or hit.id
        """The number of its call, or its own."""
        self.rank = -1 if hit.result is None else hit.result
        """How bad its result is."""
        self.outcome = _outcome_of(event, hit.result)
        self.decision_id = text_of(event, "decision_id")
        self.what = text_of(event, "endpoint", "event") or "no longer in the audit"
        """The endpoint, or the event of a line without one."""
        self.called = text_of(request, "local_alias", "alias")
        self.caller = text_of(request, "remote_alias", "remote_display_name", "registration_alias")
        self.node = text_of(request, "node_ip") or text_of(event, "peer")
        self.location = text_of(request, "location")
        self.instance = text_of(event, "instance")
        self.environment = text_of(event, "environment")
        self.action = text_of(event, "action")
        self.decided_by = text_of(event, "decided_by")
        self.reason = text_of(event, "reason", "errors")
        self.room = text_of(sent, "name") or text_of(request, "service_name")
        self.ms = event.get("ms")

    @property
    def link(self) -> str:
        """The page of a decision, or of a change; empty where there is none."""
        if self.what == "reload":
            return f"/changes?at={self.at * 1000:.0f}#change"
        return f"/decisions/{self.decision_id}" if self.decision_id else ""

    @property
    def subject(self) -> str:
        """What a line is about that has no called alias."""
        known = {"refused": "a node", "reload": "the configuration", "change": self.action}
        return known.get(self.what, self.what).replace("_", " ")

    @property
    def why(self) -> str:
        """The reason, or what the caller got."""
        if self.decided_by == "default" and not (self.reason or self.room):
            return "not ours: Infinity decides"
        answered = f"answered by {self.decided_by}" if self.decided_by else ""
        return self.reason or self.room or answered


def _outcome_of(event: Event, result: int | None) -> Outcome:
    if result is not None:
        return OUTCOMES[RESULTS[result]]
    name = str(event.get("event") or "gone")
    if name == "reload" and event.get("accepted") is False:
        return NOT_RELOADED
    return EVENTS.get(name) or Outcome("waiting", name, "ok")


async def decisions(visit: Visit) -> Response:
    """Show the newest calls that match the filters of the URL, or those before a line."""
    given, found = visit.request.query, None
    query, before = Query.of(given), given.get("before", "")
    if "" in given.values():
        # A form sends each of its fields; a short URL can be sent to a colleague.
        raise web.HTTPSeeOther(query.url(before))
    visit.problems += query.problems()
    if not visit.problems:
        visit.record_view(filters=query.params())
        if (decided := await visit.search(IndexReader.decision, query.alias)) is not None:
            raise web.HTTPSeeOther(Row(decided).link)
        found = await visit.search(read, query, whole_number(before) or None)
    return visit.render(
        "decisions.html",
        query=query,
        rows=[Row(hit) for hit in found["hits"]] if found else [],
        found=found,
        is_first=not before,
        counters=COUNTERS,
        fields=FIELDS,
        endpoints=[*ENDPOINTS],
        outcomes=OUTCOMES,
    )


def read(reader: IndexReader, query: Query, before: int | None) -> dict[str, Any]:
    """Return what a view of the list shows."""
    found: dict[str, Any] = {"newest": reader.newest(), "lines": reader.total(query)}
    found["hits"], found["older"] = reader.calls(query, before, PAGE_SIZE)
    found["counted"], found["counters"] = reader.counts(query)
    since = query.period()[0] or reader.since()
    return {**found, "since": since, **_histogram(reader, query, since or 0)}


def _histogram(reader: IndexReader, query: Query, since: int) -> dict[str, Any]:
    """Return its columns, the times of its axis in seconds, and the calls, or requests, of all."""
    start, end = query.period()
    # Links are of whole seconds.
    until = -(-(end or int(time.time() * 1000)) // 1000)
    # Of a view without a start it is that of the last calls.
    first = (start or max(since, 1000 * until - DAY_MS)) // 1000
    until = max(until, first + 1)
    bounds = [1000 * (first - slot * (first - until) // BARS) for slot in range(BARS + 1)]
    if query.is_of_all and not query.requests:
        edges = (start or 0, start or bounds[0], *bounds[1:-1], end or END)
        before, *parts = (one.counts for one in reader.all_tallies(edges))
    else:
        before, *parts = reader.over_time(query, first, until, BARS)
    tops = max(1, *(part[0] for part in parts)), max(1, *(part[1] + part[2] for part in parts))
    bars = columns(bounds, parts, tops, HEIGHTS, lambda *ends: query.between(*ends).url())
    labels = [at / 1000 for at in bounds[: -1 : BARS // 6]]
    return {"bars": [*bars], "labels": labels, "calls": sum(map(sum, (before, *parts)))}


async def newer(visit: Visit) -> Response:
    """Send the lines that are newer than ``after``, a number, to a page that is open."""
    query, after = Query.of(visit.request.query), whole_number(visit.text("after"))
    if query.problems():
        raise web.HTTPBadRequest
    view = urlencode(query.params())
    if view not in visit.session.views:
        # Once for each view, however often the page asks.
        visit.record_view(filters=query.params())
        visit.session.views.append(view)
    hits, left_out = await visit.search(IndexReader.newer, query, after, MAX_ROWS) or ([], 0)
    rows = [Row(hit) for hit in hits]
    if not query.requests:
        worst = {row.call: row for row in sorted(rows, key=lambda row: row.rank)}
        rows = [row for row in rows if worst[row.call] is row]
    context = {"rows": rows, "query": query}
    html = aiohttp_jinja2.render_string("decision_rows.html", visit.request, context)
    newest = hits[0].id if hits else after
    return web.json_response({"rows": html, "after": newest, "left_out": left_out})


async def fresh(visit: Visit) -> Response:
    """Show what the header of each page says of the server."""
    return visit.render("fresh.html")


PAGES = (
    Page("/decisions", decisions, "Decisions"),
    Page("/decisions/newer", newer),
    Page("/fresh", fresh),
)
