"""The pages Servers, Nodes, Audit, Live and limits, and Meetings: the platform as it is now."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import hdrs, web

from pexpolicy.cli.for_console import refusals
from pexpolicy_console.context import Page, PageError, Response, Visit, attachment
from pexpolicy_console.index.query import Query
from pexpolicy_console.index.reader import IndexReader
from pexpolicy_console.login.sessions import Role
from pexpolicy_console.pages.changes import DAY_S, Change, changes_of, lines
from pexpolicy_console.server_client import Document

COMPARED = ("version", "plugins", "policy_hash", "bundle")
DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
SILENT_S = 3600.0
"""Time without a call from which on a node is silent, as for ``pexpolicy status``."""
MAX_REFUSED = 20
"""Refused bookings of a page."""
NODE_STATES = ("refused", "silent", "calls")
MAX_LINES = 50_000
"""Lines of a download."""
PART = 1000
"""Lines that are read at once."""


def compared(servers: Sequence[Document]) -> list[Document]:
    """Return servers with the names of what is unusual in ``odd``, those first."""
    known = [one for one in servers if not one.silent]
    counts = {key: Counter(str(one[key]) for one in known) for key in COMPARED if known}
    rows = []
    for one in servers:
        unlike = (key for key in counts if str(one[key]) != counts[key].most_common(1)[0][0])
        odd = set() if one.silent else set(unlike)
        rows.append(Document(one, odd=odd, is_odd=bool(odd or one.silent or one.refused)))
    return sorted(rows, key=lambda one: (not one.is_odd, one.instance or one.url))


def policies_over(
    changes: Sequence[Change], start: float, end: float
) -> dict[str, list[tuple[float, Change]]]:
    """Return what decided on each server in a period, from which percent of it on."""
    found: dict[str, list[tuple[float, Change]]] = {}
    for one in reversed(changes):
        at, parts = max(0.0, 100 * (one.at - start) / (end - start)), found.get(one.instance, [])
        found[one.instance] = [*(part for part in parts if part[0] < at), (at, one)]
    return found


async def servers(visit: Visit) -> Response:
    """Show whether the servers of the policy decide alike, and where they differ."""
    found, now = await visit.ask_server("/fleet"), time.time()
    known = policies_over(changes_of(await visit.search(lines) or ()), now - DAY_S, now)
    listed = compared(found["servers"]) if found else []
    return visit.render("servers.html", found=found, servers=listed, timeline=known, seconds=now)


async def nodes(visit: Visit) -> Response:
    """Show which Conferencing Nodes call, are silent or are refused."""
    status = await visit.status()
    found = [] if status is None else [(state_of(node), node) for node in status.nodes]
    found.sort(key=lambda item: NODE_STATES.index(item[0]))
    return visit.render("nodes.html", nodes=found, server=status, refusals=refusals)


def state_of(node: Document) -> str:
    """Return which of ``NODE_STATES`` a node has."""
    if node.last_refused and node.last_refused > (node.last_call or 0.0):
        return "refused"
    return "silent" if node.age is None or node.age > SILENT_S else "calls"


async def live(visit: Visit) -> Response:
    """Show how many people are in which service, and how full each tenant is."""
    counts, ask = await visit.ask_server("/plugins/live/"), visit.console.server.ask
    (stale, _), (limits, _) = [await ask(f"/plugins/{one}") for one in ("live/stale", "limits/")]
    now, limited = (one["tenants"] if one else {} for one in (counts, limits))
    rows = [_tenant(name, now.get(name, {}), limited.get(name, {})) for name in now | limited]
    services = counts["services"].items() if counts else ()
    return visit.render(
        "live.html",
        counts=counts,
        causes=stale["stale"] if stale else [],
        has_limits=bool(limits),
        tenants=sorted(rows, key=lambda row: (-row["fill"], row["name"])),
        services=sorted(services, key=lambda item: (-item[1]["participants"], item[0])),
    )


def _tenant(name: str, now: Mapping[str, int], limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a tenant; ``fill`` is 1 where its limit is reached."""
    people = {"soft": None, "hard": None, "peak": None} | (limits.get("participants") or {})
    count = people.get("now", now.get("participants", 0))
    soft, hard = people["soft"], people["hard"]
    most, state = hard or soft, "over the soft limit" if soft and count >= soft else "within"
    state = "full" if hard and count >= hard else state
    return {
        **people,
        "name": name,
        "now": count,
        "state": state if most else "",
        "fill": count / most if most else 0.0,
        "meetings": (limits.get("meetings") or {}).get("now"),
        "waiting": now.get("waiting"),
        "refused": sum(int(one.get("refused") or 0) for one in limits.values()),
    }


async def meetings(visit: Visit, pins: Mapping[str, Any] | None = None) -> Response:
    """Show the meetings of a day, and after a click the PINs of one."""
    day = visit.text("day") or "today"
    now = datetime.now(UTC)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(DAYS.get(day, 0))
    period = urlencode({"from": start.isoformat(), "to": (start + timedelta(1)).isoformat()})
    found = await visit.ask_server(f"/plugins/meetings/meetings?{period}")
    times = [int(one.timestamp() * 1000) for one in (start, start + timedelta(1))]
    rejected = Query(decided_by="meetings", action="reject", requests="1").between(*times)
    bookings = Query(event="change", action="meeting_refused").between(*times)
    counted = await visit.search(IndexReader.counts, rejected)
    visit.record_view(day=day)
    return visit.render(
        "meetings.html",
        day=day,
        days=DAYS,
        found=found,
        rejected=rejected,
        refused=await visit.search(IndexReader.search, bookings, None, MAX_REFUSED) or (),
        reasons=counted[1]["reason"].most_common(8) if counted else (),
        meetings=[_meeting(one, start) for one in found["items"]] if found else [],
        now_at=100 * (now - start) / timedelta(1),
        pins=pins,
    )


def _meeting(found: dict[str, Any], day: datetime) -> dict[str, Any]:
    """Return a meeting with its place on the axis of a day, in percent."""
    shares = ((datetime.fromisoformat(found[at]) - day) / timedelta(1) for at in ("start", "end"))
    left, right = (100 * min(max(share, 0.0), 1.0) for share in shares)
    place = {"left": left, "width": max(right - left, 0.5)}
    return {"title": "", "name": "", "people": 0, **found, **place}


async def pins(visit: Visit) -> Response:
    """Show the PINs of one meeting, which is recorded here and in the audit."""
    tenant, meeting = (visit.form.get(name, "") for name in ("tenant", "id"))
    visit.record("pins_shown", tenant=tenant, meeting=meeting)
    path = f"/plugins/meetings/tenants/{quote(tenant, safe='')}/meetings/{quote(meeting, safe='')}"
    found = await visit.ask_server(f"{path}?pins=true")
    return await meetings(visit, found)


async def audit(visit: Visit) -> Response:
    """Show the state of the audit."""
    console, user = visit.console, visit.text("user")
    server, accesses = await visit.status(), None
    if visit.session.role >= Role.ADMIN:
        visit.record_view(access_log=user or "all")
        accesses = await asyncio.to_thread(console.actions.recent, user)
    health = None if server is None else server.audit
    return visit.render("audit.html", health=health, accesses=accesses, user=user)


async def verify(visit: Visit) -> Response:
    """Start a verification of the chain, unless one runs."""
    if not visit.console.verification.is_running:
        visit.record("verify audit")
        visit.console.verification.start()
    raise web.HTTPSeeOther("/audit")


async def download(visit: Visit) -> Response:
    """Send the lines that match the filters of the URL as they were written, the oldest first."""
    query = Query.of(visit.request.query)
    if problems := query.problems():
        raise PageError("; ".join(problems), 400)
    visit.record("download audit", filters=query.params())
    content = await visit.search(_packed, query)
    if content is None:
        raise PageError(visit.problems[0], 503)
    if not content:
        raise PageError(f"These are more than {MAX_LINES:,} lines: choose a shorter period.", 413)
    return attachment(content, "audit.jsonl.gz", "application/gzip")


def _packed(reader: IndexReader, query: Query) -> bytes:
    """Return a gzip file of the lines; empty if they are too many."""
    lines, before = list[bytes](), None
    while len(lines) <= MAX_LINES:
        hits = reader.search(query, before, PART)
        lines += (hit.content + b"\n" for hit in hits if hit.content)
        if len(hits) < PART:
            return gzip.compress(b"".join(reversed(lines)))
        before = hits[-1].id
    return b""


PAGES = (
    Page("/servers", servers, "Servers"),
    Page("/nodes", nodes, "Nodes"),
    Page("/live", live, "Live and limits", plugin="live"),
    Page("/meetings", meetings, "Meetings", Role.OPERATOR, plugin="meetings"),
    Page("/meetings", pins, "", Role.ADMIN, hdrs.METH_POST),
    Page("/audit", audit, "Audit"),
    Page("/audit/verify", verify, "", Role.OPERATOR, hdrs.METH_POST),
    Page("/audit/download", download, "", Role.OPERATOR),
)
