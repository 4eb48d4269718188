"""The page Decisions: the audit lines, the newest first, with filters; and what an open page asks
for: new lines, as server-sent events, and the state of the server.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlencode

import aiohttp_jinja2
from aiohttp import hdrs, web

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy_console.context import Page, Response, Visit, whole_number
from pexpolicy_console.index.lines import RESULTS, Event
from pexpolicy_console.index.query import FILTERS, Query
from pexpolicy_console.index.reader import Hit, IndexReader
from pexpolicy_console.login.pages import session_cookie
from pexpolicy_console.login.sessions import is_current
from pexpolicy_console.pages.chart import DAY_MS, Column, columns

PAGE_SIZE = 100
MAX_VALUES = 12
"""Values that are shown of each counter."""
FIELDS = {
    "called": "Called alias",
    "caller": "Caller",
    **{name: title for name, (_, title) in FILTERS.items()},
    "slower": "Slower than, ms",
}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "result": RESULTS,
    "endpoint": tuple(ENDPOINTS),
    "action": ("continue", "reject", "redirect"),
    "event": ("decision", "refused", "shadow"),
    "outcome": ("failed", "timed_out", "invalid", "busy", "skipped", "adjusted"),
}
COUNTERS = ("result", "reason", "decided_by", "location", "policy", "node", "instance", "endpoint")
"""The columns whose values are counted next to the list, in its order."""
TITLES = {**FIELDS, "alias": "Search", "location": "From", "policy": "Policy"}
COUNTED_LINES = 20_000
"""Lines of a view whose columns are counted, at most."""
BARS = 60
"""Of the histogram."""
HEIGHTS = (26, 12)
"""Of the columns of its two plots, in pixels."""
TICK_S = 0.25
"""Between two searches for new lines."""
BUSY_INTERVAL_S = 1.0
"""After an event that leaves lines out: people cannot read rows that change faster."""
MAX_ROWS = 25
"""Rows in an event; further ones are counted."""
MAX_STREAMS = 64
MAX_STREAMS_OF_USER = 16
"""So that one user leaves streams to the others."""
COMMENT_INTERVAL_S = 15.0
"""A comment keeps proxies from closing a silent stream."""


class Outcome(NamedTuple):
    """What became of a call, for people: its icon, a word, and the class of its colour."""

    icon: str
    word: str
    style: str


OUTCOMES = {
    "accepted": Outcome("accepted", "accepted", "ok"),
    "refused": Outcome("refused", "refused", "refuse"),
    "failed": Outcome("failed", "failed", "trouble"),
}
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
        self.decision_id = _text(event, "decision_id")
        self.what = _text(event, "endpoint", "event") or "no longer in the audit"
        """The endpoint, or the event of a line without one."""
        self.called = _text(request, "local_alias", "alias")
        self.caller = _text(request, "remote_alias", "remote_display_name", "registration_alias")
        self.node = _text(request, "node_ip") or _text(event, "peer")
        self.location = _text(request, "location")
        self.instance = _text(event, "instance")
        self.environment = _text(event, "environment")
        self.action = _text(event, "action")
        self.decided_by = _text(event, "decided_by")
        self.reason = _text(event, "reason")
        self.room = _text(sent, "name") or _text(request, "service_name")
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
        return {"refused": "a node", "reload": "the configuration"}.get(self.what, self.what)

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


def _text(values: Event, *names: str) -> str:
    for name in names:
        value = values.get(name)
        value = value[-1] if isinstance(value, list) and value else value
        if isinstance(value, str) and value:
            return value
    return ""


@dataclass(slots=True)
class Found:
    """What a view of the list shows."""

    hits: list[Hit] = field(default_factory=list)
    older: int | None = None
    newest: int = 0
    """The number of the newest line of all."""
    lines: int = 0
    calls: int = 0
    since: int | None = None
    """The first moment of the view, in milliseconds."""
    counted: int = 0
    counters: dict[str, Counter[str]] = field(default_factory=dict)
    bars: Sequence[Column] = ()
    """The histogram."""
    labels: Sequence[float] = ()
    """The times of its axis, in seconds."""


async def decisions(visit: Visit) -> Response:
    """Show the newest calls that match the filters of the URL, or those before a line."""
    given, index, found = visit.request.query, visit.console.index, Found()
    query, before = Query.of(given), given.get("before", "")
    if "" in given.values():
        # A form sends each of its fields; a short URL can be sent to a colleague.
        raise web.HTTPSeeOther(query.url(before))
    if not (problems := query.problems()):
        visit.record_view(filters=query.params())
        decided, _ = await index.ask(IndexReader.decision, query.alias)
        if decided is not None:
            raise web.HTTPSeeOther(Row(decided).link)
        searched, problem = await index.ask(_search, query, whole_number(before) or None)
        found = searched or found
        problems = [problem] if problem else []
    return visit.render(
        "decisions.html",
        query=query,
        params=query.params(),
        rows=[Row(hit) for hit in found.hits],
        problems=problems,
        found=found,
        counters=[
            (name, found.counters[name].most_common(MAX_VALUES))
            for name in COUNTERS
            if len(found.counters.get(name, ())) > (name in ("instance", "policy"))
        ],
        fields=FIELDS,
        titles=TITLES,
        choices=CHOICES,
        older=query.url(str(found.older)) if found.older else "",
        is_first=not before,
        live=urlencode({**query.params(), "after": str(found.newest)}),
        index=index.state,
        outcomes=OUTCOMES,
    )


def _search(reader: IndexReader, query: Query, before: int | None) -> Found:
    found = Found(newest=reader.newest())
    if query.requests:
        found.hits = reader.search(query, before, PAGE_SIZE)
        found.older = found.hits[-1].id if len(found.hits) == PAGE_SIZE else None
    else:
        found.hits, found.older = reader.calls(query, before, PAGE_SIZE)
    found.counted, found.counters = reader.counts(query, COUNTED_LINES)
    found.lines, found.calls = reader.totals(query)
    found.since = query.period()[0] or reader.since()
    if found.hits:
        _histogram(found, reader, query)
    return found


def _histogram(found: Found, reader: IndexReader, query: Query) -> None:
    start, end = query.period()
    end = end or int(time.time() * 1000)
    # Of a view without a start it is that of the last calls.
    start = start or max(found.since or 0, end - DAY_MS)
    step = max((end - start) // BARS, 1000)
    bounds = [start + slot * step for slot in range(BARS + 1)]
    if query.is_of_all and not query.requests:
        parts = [one.counts for one in reader.all_tallies(bounds)]
    else:
        counts = reader.over_time(query.between(start, end), start, step)
        parts = [[counts[slot, result] for result in range(3)] for slot in range(BARS)]
    tops = max(1, *(part[0] for part in parts)), max(1, *(part[1] + part[2] for part in parts))

    def link(at: int, until: int) -> str:
        return query.between(at, until).url()

    found.bars = [*columns(bounds, parts, tops, HEIGHTS, link)]
    found.labels = [(start + (end - start) * part / 6) / 1000 for part in range(6)]


async def stream(visit: Visit) -> Response:
    """Send lines that are newer than ``after``, a number, until browser or session are gone."""
    user, streams = visit.session.user, visit.console.streams
    query, after = Query.of(visit.request.query), visit.request.query.get("after", "0")
    if query.problems() or not after.isdecimal() or len(after) > 15:  # noqa: PLR2004
        return web.Response(status=HTTPStatus.BAD_REQUEST, text="the filters are not valid\n")
    if streams.total() >= MAX_STREAMS or streams[user] >= MAX_STREAMS_OF_USER:
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="too many streams\n")
    visit.record_view(filters=query.params())
    headers = {hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"}
    response = Response(headers=headers)
    streams[user] += 1
    try:
        await response.prepare(visit.request)
        await _send(visit, response, query, int(after))
    except ConnectionError:
        pass
    finally:
        streams[user] -= 1
    return response


async def _send(visit: Visit, response: Response, query: Query, after: int) -> None:
    # Browsers that lost the same server come back at different times.
    await response.write(b"retry: %d\n\n" % random.randint(1000, 4000))  # noqa: S311 - no secret
    silent = pause = 0.0
    while _is_open(visit):
        found, _ = await visit.console.index.ask(IndexReader.newer, query, after, MAX_ROWS)
        hits, left_out = found or ([], 0)
        silent += pause
        if hits:
            after, silent = hits[0].id, 0.0
            await response.write(_event(visit, query, hits, left_out))
        elif silent >= COMMENT_INTERVAL_S:
            silent = 0.0
            await response.write(b":\n\n")
        pause = BUSY_INTERVAL_S if left_out else TICK_S
        await asyncio.sleep(pause)


def _event(visit: Visit, query: Query, hits: list[Hit], left_out: int) -> bytes:
    rows = [Row(hit) for hit in hits]
    if not query.requests:
        worst = {row.call: row for row in sorted(rows, key=lambda row: (row.rank, -row.id))}
        rows = [row for row in rows if worst[row.call] is row]
    context = {"rows": rows, "query": query}
    html = aiohttp_jinja2.render_string("decision_rows.html", visit.request, context)
    data = json.dumps({"rows": html, "count": len(hits), "left_out": left_out})
    return f"event: rows\ndata: {data}\n\n".encode()


def _is_open(visit: Visit) -> bool:
    """Return whether the browser is there, the session open, and its user not removed."""
    transport, console, session = visit.request.transport, visit.console, visit.session
    if transport is None or transport.is_closing():
        return False
    return console.sessions.is_open(session, session_cookie(visit.request)) and is_current(
        session, console.config.settings.console
    )


async def fresh(visit: Visit) -> Response:
    """Show what the header of each page says of the server."""
    return visit.render("fresh.html")


PAGES = (
    Page("/decisions", decisions, "Decisions"),
    Page("/decisions/stream", stream),
    Page("/fresh", fresh),
)
