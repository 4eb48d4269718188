"""The pages Servers, Live and limits, and Meetings: what the admin listener says now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import hdrs, web

from pexpolicy_console.context import console_of
from pexpolicy_console.forms import form_of
from pexpolicy_console.pages.page import Page, record, record_view, render
from pexpolicy_console.roles import Role

COMPARED = ("version", "plugins", "policy_hash", "bundle")
DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}


def compared(servers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return servers with the names of what is unusual in ``odd``, those first."""
    known = [one for one in servers if not one["silent"]]
    counts = {key: Counter(str(one[key]) for one in known) for key in COMPARED if known}
    rows = []
    for one in servers:
        unlike = (key for key in counts if str(one[key]) != counts[key].most_common(1)[0][0])
        odd = set() if one["silent"] else set(unlike)
        rows.append({**one, "odd": odd, "is_odd": bool(odd or one["silent"] or one["refused"])})
    return sorted(rows, key=lambda one: (not one["is_odd"], one["instance"] or one["url"]))


async def servers(request: web.Request) -> web.StreamResponse:
    """Show whether the servers of the policy decide alike, and where they differ."""
    found, problem = await console_of(request).server.ask("/fleet")
    found = found or {"servers": [], "differences": []}
    shown = {"servers": compared(found["servers"]), "differences": found["differences"]}
    return render(request, "servers.html", problem=problem, **shown)


async def live(request: web.Request) -> web.StreamResponse:
    """Show how many people are in which service, and how full each tenant is."""
    paths, ask = ("live/", "live/stale", "limits/"), console_of(request).server.ask
    (counts, problem), (stale, _), (limits, _) = [await ask(f"/plugins/{one}") for one in paths]
    now, limited = (one["tenants"] if one else {} for one in (counts, limits))
    rows = [_tenant(name, now.get(name, {}), limited.get(name, {})) for name in now | limited]
    services = counts["services"].items() if counts else ()
    return render(
        request,
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


async def meetings(
    request: web.Request, pins: Mapping[str, Any] | None = None
) -> web.StreamResponse:
    """Show the meetings of a day, and after a click the PINs of one."""
    day = request.query.get("day", "today")
    now = datetime.now(UTC)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(DAYS.get(day, 0))
    period = urlencode({"from": start.isoformat(), "to": (start + timedelta(1)).isoformat()})
    found, problem = await console_of(request).server.ask(f"/plugins/meetings/meetings?{period}")
    record_view(request, day=day)
    return render(
        request,
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
    places = []
    for name in ("start", "end"):
        share = (datetime.fromisoformat(found[name]) - day) / timedelta(1)
        places.append(100 * min(max(share, 0.0), 1.0))
    width = max(places[1] - places[0], 0.5)
    return {"title": "", "name": "", "people": 0, **found, "left": places[0], "width": width}


async def pins(request: web.Request) -> web.StreamResponse:
    """Show the PINs of one meeting, which is recorded here and in the audit."""
    form = form_of(request)
    tenant, meeting = form.get("tenant", ""), form.get("id", "")
    record(request, "pins_shown", tenant=tenant, meeting=meeting)
    path = f"/plugins/meetings/tenants/{quote(tenant, safe='')}/meetings/{quote(meeting, safe='')}"
    found, problem = await console_of(request).server.ask(f"{path}?pins=true")
    return await meetings(request, {"id": meeting, "problem": problem, **(found or {})})


PAGES = (
    Page("/servers", servers, "Servers"),
    Page("/live", live, "Live and limits", plugin="live"),
    Page("/meetings", meetings, "Meetings", Role.OPERATOR, plugin="meetings"),
    Page("/meetings", pins, "", Role.ADMIN, hdrs.METH_POST),
)
