"""The page Decisions: the audit lines, the newest first, with filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from pexpolicy.endpoints import ENDPOINTS
from pexpolicy_console.context import console_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import COLUMNS, Hit
from pexpolicy_console.pages.page import Page, record_view, render

PAGE_SIZE = 100
MAX_VALUES = 12
"""Values that are shown of each counter."""
FIELDS = (
    ("alias", "Alias, name or IP address"),
    ("called", "Called alias"),
    ("caller", "Caller"),
    ("room", "Room"),
    ("node", "Node"),
    ("instance", "Server"),
    ("endpoint", "Request"),
    ("action", "Action"),
    ("decided_by", "Decided by"),
    ("plugin", "Plugin asked"),
    ("outcome", "Outcome of a step"),
    ("rule", "Rule"),
    ("reason", "Reason"),
    ("event", "Event"),
    ("since", "Since"),
    ("until", "Until"),
    ("slower", "Slower than, ms"),
)
CHOICES: Mapping[str, tuple[str, ...]] = {
    "endpoint": tuple(ENDPOINTS),
    "action": ("continue", "reject", "redirect"),
    "event": ("decision", "refused", "shadow"),
    "outcome": ("failed", "timed_out", "invalid", "busy", "skipped", "adjusted"),
}


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
    is_bad: bool
    """A step failed."""


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
        any(
            _mapping(step).get("outcome") not in ("decided", "abstained", "adjusted")
            for step in event.get("steps") or ()
        ),
    )


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
    """Show the newest lines that match the filters of the URL, or those before a line."""
    query = Query.of(request.query)
    before = request.query.get("before", "")
    if "" in request.query.values():
        # A form sends each of its fields; a short URL can be sent to a colleague.
        raise web.HTTPSeeOther(url(query, before))
    problems, hits = query.problems(), []
    total, counters = 0, dict[str, Counter[str]]()
    index = console_of(request).index
    if not problems:
        record_view(request, filters=query.params())
        try:
            number = int(before) if before.isdecimal() and len(before) < 16 else None  # noqa: PLR2004
            hits = await index.ask(lambda reader: reader.search(query, number, PAGE_SIZE))
            total, counters = await index.ask(lambda reader: reader.counts(query))
        except IndexUnavailable as error:
            problems.append(str(error))
    rows = [row_of(hit) for hit in hits]
    older = url(query, str(rows[-1].id)) if len(rows) == PAGE_SIZE else ""
    return render(
        request,
        "decisions.html",
        query=query,
        params=query.params(),
        rows=rows,
        problems=problems,
        counted=total,
        counters=[
            (name, counters[name].most_common(MAX_VALUES)) for name in COLUMNS if counters.get(name)
        ],
        fields=FIELDS,
        choices=CHOICES,
        older=older,
        is_first=not before,
        live=urlencode({**query.params(), "after": str(rows[0].id if rows else 0)}),
        index=index.state,
        url=url,
    )


PAGES = (Page("/decisions", decisions, "Decisions"),)
