"""The pages Servers, Nodes, Live and limits, and Meetings: what the admin listener says now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import hdrs

from pexpolicy.cli.for_console import refusals
from pexpolicy_console.context import Page, Response, Visit
from pexpolicy_console.login.sessions import Role
from pexpolicy_console.server_client import Document

COMPARED = ("version", "plugins", "policy_hash", "bundle")
DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
HINTS = {
    refusals.UNAUTHORISED: "no user and password, or not those of [auth]: see the policy profile",
    refusals.NOT_ALLOWED: "the address is not in [access] networks",
    refusals.BUSY: "too many wrong passwords: correct the policy profile, and wait ten minutes",
    refusals.HANDSHAKE_FAILED: "no HTTPS, or no certificate that [tls] accepts",
    refusals.UNKNOWN_PATH: "often /policy/v1 too many in the policy profile, or another base_path",
}
"""What to look at first, by the reason of a refusal of a node."""
SILENT_S = 3600.0
"""Time without a call from which on a node is silent, as for ``pexpolicy status``."""
NODE_STATES = ("refused", "silent", "calls")


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


async def servers(visit: Visit) -> Response:
    """Show whether the servers of the policy decide alike, and where they differ."""
    found, problem = await visit.console.server.ask("/fleet")
    listed, differences = (found["servers"], found["differences"]) if found else ([], [])
    return visit.render(
        "servers.html", problem=problem, servers=compared(listed), differences=differences
    )


async def nodes(visit: Visit) -> Response:
    """Show which Conferencing Nodes call, are silent or are refused."""
    status, problem = await visit.console.server.status()
    found = [] if status is None else [(state_of(node), node) for node in status.nodes]
    found.sort(key=lambda item: NODE_STATES.index(item[0]))
    refused = {} if status is None else status.refused
    return visit.render("nodes.html", nodes=found, refused=refused, hints=HINTS, problem=problem)


def state_of(node: Document) -> str:
    """Return which of ``NODE_STATES`` a node has."""
    if node.last_refused and node.last_refused > (node.last_call or 0.0):
        return "refused"
    return "silent" if node.age is None or node.age > SILENT_S else "calls"


async def live(visit: Visit) -> Response:
    """Show how many people are in which service, and how full each tenant is."""
    paths, ask = ("live/", "live/stale", "limits/"), visit.console.server.ask
    (counts, problem), (stale, _), (limits, _) = [await ask(f"/plugins/{one}") for one in paths]
    now, limited = (one["tenants"] if one else {} for one in (counts, limits))
    rows = [_tenant(name, now.get(name, {}), limited.get(name, {})) for name in now | limited]
    services = counts["services"].items() if counts else ()
    return visit.render(
        "live.html",
        problem=problem,
        counts=counts,
        causes=stale["stale"] if stale else [],
        has_limits=bool(limits),
        tenants=sorted(rows, key=lambda row: (-row["fill"], row["name"])),
        services=sorted(services, key=lambda item: (-item[1]["participants"], item[0])),
    )


def _tenant(name: str, now: Mapping[str, int], limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a tenant; ``fill`` is 1 where its limit is reached."""
    people = limits.get("participants") or {}
    count = people.get("now", now.get("participants", 0))
    soft, hard = people.get("soft"), people.get("hard")
    most, state = hard or soft, "over the soft limit" if soft and count >= soft else "within"
    state = "full" if hard and count >= hard else state
    return {
        "name": name,
        "now": count,
        "soft": soft,
        "hard": hard,
        "state": state if most else "",
        "fill": count / most if most else 0.0,
        "meetings": (limits.get("meetings") or {}).get("now"),
        "waiting": now.get("waiting"),
        "peak": people.get("peak"),
        "refused": sum(int(one.get("refused") or 0) for one in limits.values()),
    }


async def meetings(visit: Visit, pins: Mapping[str, Any] | None = None) -> Response:
    """Show the meetings of a day, and after a click the PINs of one."""
    day = visit.text("day") or "today"
    now = datetime.now(UTC)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(DAYS.get(day, 0))
    period = urlencode({"from": start.isoformat(), "to": (start + timedelta(1)).isoformat()})
    found, problem = await visit.console.server.ask(f"/plugins/meetings/meetings?{period}")
    visit.record_view(day=day)
    return visit.render(
        "meetings.html",
        day=day,
        days=DAYS,
        problem=problem,
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
    found, problem = await visit.console.server.ask(f"{path}?pins=true")
    return await meetings(visit, {"id": meeting, "problem": problem, **(found or {})})


PAGES = (
    Page("/servers", servers, "Servers"),
    Page("/nodes", nodes, "Nodes"),
    Page("/live", live, "Live and limits", plugin="live"),
    Page("/meetings", meetings, "Meetings", Role.OPERATOR, plugin="meetings"),
    Page("/meetings", pins, "", Role.ADMIN, hdrs.METH_POST),
)
