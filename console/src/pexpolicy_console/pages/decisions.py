"""The page Decisions: the audit lines, the newest first, with filters."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy_console.context import console_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.lines import RESULTS
from pexpolicy_console.index.numbers import Tally, since, tallies
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import Hit, IndexReader
from pexpolicy_console.pages.page import Page, record_view, render

PAGE_SIZE = 100
MAX_VALUES = 12
"""Values that are shown of each counter."""
FIELDS = (
    ("called", "Called alias"),
    ("caller", "Caller"),
    ("room", "Room"),
    ("result", "Outcome"),
    ("reason", "Reason"),
    ("decided_by", "Decided by"),
    ("rule", "Rule"),
    ("plugin", "Plugin asked"),
    ("outcome", "Outcome of a step"),
    ("endpoint", "Request"),
    ("action", "Action"),
    ("event", "Event"),
    ("location", "Location"),
    ("protocol", "Protocol"),
    ("tenant", "Tenant"),
    ("node", "Node"),
    ("environment", "Environment"),
    ("instance", "Server"),
    ("policy", "Policy hash"),
    ("slower", "Slower than, ms"),
)
CHOICES: Mapping[str, tuple[str, ...]] = {
    "result": RESULTS,
    "endpoint": tuple(ENDPOINTS),
    "action": ("continue", "reject", "redirect"),
    "event": ("decision", "refused", "shadow"),
    "outcome": ("failed", "timed_out", "invalid", "busy", "skipped", "adjusted"),
}
COUNTERS = ("result", "reason", "decided_by", "location", "policy", "node", "instance", "endpoint")
"""The columns whose values are counted next to the list, in its order."""
TITLES = {**dict(FIELDS), "alias": "Search", "location": "From", "policy": "Policy"}
COUNTED_LINES = 20_000
"""Lines of a view whose columns are counted, at most."""
BARS = 60
"""Of the histogram."""
HOUR_MS = 3_600_000
HEIGHTS = (26, 12)
"""Of its two plots, in pixels."""


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


@dataclass(frozen=True, slots=True)
class Row:
    """What the list shows of a line."""

    id: int
    at: float
    """Seconds since 1970."""
    decision_id: str
    what: str
    """The endpoint, or the event of a line without one."""
    called: str
    caller: str
    node: str
    instance: str
    action: str
    decided_by: str
    reason: str
    room: str
    ms: float | None
    call: int
    """The number of its call, or its own."""
    rank: int
    """How bad its result is."""
    outcome: Outcome
    location: str = ""
    environment: str = ""

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
        if self.reason or self.room:
            return self.reason or self.room
        if self.decided_by == "default":
            return "not ours: Infinity decides"
        return f"answered by {self.decided_by}" if self.decided_by else ""


def row_of(hit: Hit) -> Row:
    """Return the row of a line."""
    event: Mapping[str, Any] = hit.event or {}
    request = _mapping(event.get("request"))
    sent = _mapping(event.get("sent"))
    reason = event.get("reason")
    return Row(
        hit.id,
        hit.at / 1000,
        str(event.get("decision_id") or ""),
        str(event.get("endpoint") or event.get("event") or "no longer in the audit"),
        _text(request, "local_alias", "alias"),
        _text(request, "remote_alias", "remote_display_name", "registration_alias"),
        _text(request, "node_ip") or str(event.get("peer") or ""),
        _text(event, "instance"),
        str(event.get("action") or ""),
        str(event.get("decided_by") or ""),
        "" if reason is None else str(reason),
        _text(sent, "name") or _text(request, "service_name"),
        event.get("ms"),
        hit.call or hit.id,
        -1 if hit.result is None else hit.result,
        _outcome_of(event, hit.result),
        _text(request, "location"),
        _text(event, "environment"),
    )


def _outcome_of(event: Mapping[str, Any], result: int | None) -> Outcome:
    if result is not None:
        return OUTCOMES[RESULTS[result]]
    name = str(event.get("event") or "gone")
    if name == "reload" and event.get("accepted") is False:
        return NOT_RELOADED
    return EVENTS.get(name) or Outcome("waiting", name, "ok")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(values: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = values.get(name)
        value = value[-1] if isinstance(value, list) and value else value
        if isinstance(value, str) and value:
            return value
    return ""


def url(query: Query, before: str = "", **changes: str) -> str:
    """Return the URL of a view of the list."""
    params = query.params(**changes) | ({"before": before} if before else {})
    return f"/decisions?{urlencode(params)}" if params else "/decisions"


async def decisions(request: web.Request) -> web.StreamResponse:
    """Show the newest calls that match the filters of the URL, or those before a line."""
    query = Query.of(request.query)
    before = request.query.get("before", "")
    if "" in request.query.values():
        # A form sends each of its fields; a short URL can be sent to a colleague.
        raise web.HTTPSeeOther(url(query, before))
    problems, found = query.problems(), Found()
    index = console_of(request).index
    if not problems:
        record_view(request, filters=query.params())
        try:
            number = int(before) if before.isdecimal() and len(before) < 16 else None  # noqa: PLR2004
            if (
                decided := await index.ask(lambda reader: reader.decision(query.alias))
            ) is not None:
                raise web.HTTPSeeOther(f"/decisions/{row_of(decided).decision_id}")
            found = await index.ask(partial(_search, query=query, before=number))
        except IndexUnavailable as error:
            problems.append(str(error))
    rows = [row_of(hit) for hit in found.hits]
    return render(
        request,
        "decisions.html",
        query=query,
        params=query.params(),
        rows=rows,
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
        older=url(query, str(found.older)) if found.older else "",
        is_first=not before,
        live=urlencode({**query.params(), "after": str(found.newest)}),
        index=index.state,
        url=url,
        outcomes=OUTCOMES,
    )


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
    bars: list[tuple[str, Sequence[int], Sequence[float]]] = field(default_factory=list)
    """Link, counts and heights of each part of the histogram."""
    labels: list[tuple[float, float]] = field(default_factory=list)
    """Place in percent, and time in seconds, of the labels of its axis."""


def _search(reader: IndexReader, query: Query, before: int | None) -> Found:
    found = Found(newest=reader.newest())
    if query.requests:
        found.hits = reader.search(query, before, PAGE_SIZE)
        found.older = found.hits[-1].id if len(found.hits) == PAGE_SIZE else None
    else:
        found.hits, found.older = reader.calls(query, before, PAGE_SIZE)
    found.counted, found.counters = reader.counts(query, COUNTED_LINES)
    found.lines, found.calls = reader.totals(query)
    found.since = query.period()[0] or since(reader)
    if found.hits:
        _histogram(found, reader, query)
    return found


def _histogram(found: Found, reader: IndexReader, query: Query) -> None:
    start, end = query.period()
    end = end or int(time.time() * 1000)
    # Of a view without a start it is that of the last calls.
    start = start or max(found.since or 0, end - 24 * HOUR_MS)
    step = max((end - start) // BARS, 1000)
    period = replace(query, since=_written(start), until=_written(end), around="", zone="")
    if query.is_of_all and not query.requests:
        bounds = [start + slot * step for slot in range(BARS + 1)]
        parts = [one.get("", Tally()).counts for one in tallies(reader, "all", bounds)]
    else:
        counts = reader.over_time(period, start, step)
        parts = [[counts[slot, result] for result in range(3)] for slot in range(BARS)]
    tops = (
        max(1, *(part[0] for part in parts)),
        max(1, *(part[1] + part[2] for part in parts)),
    )
    for slot, part in enumerate(parts):
        heights = [
            count and max(1.5, count * height / top)
            for count, height, top in zip(
                part, (HEIGHTS[0], *[HEIGHTS[1]] * 2), (*tops, tops[1]), strict=True
            )
        ]
        at = start + slot * step
        link = url(
            replace(query, around="", zone=""), since=_written(at), until=_written(at + step)
        )
        found.bars.append((link, part, heights))
    found.labels = [
        (100 * part / 6, (start + (end - start) * part / 6) / 1000) for part in range(6)
    ]


def _written(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%dT%H:%M:%S}Z"


PAGES = (Page("/decisions", decisions, "Decisions"),)
