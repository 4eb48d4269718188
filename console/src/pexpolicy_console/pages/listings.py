"""The pages Rooms and Rules: what the configuration on the disk holds, and what decides."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from aiohttp import web

from pexpolicy.audit.redaction import REMOVED
from pexpolicy_console.context import SESSION, console_of
from pexpolicy_console.index.index import IndexUnavailable
from pexpolicy_console.index.numbers import since, tallies
from pexpolicy_console.pages.chart import days, link, zone_of
from pexpolicy_console.pages.page import Page, dry_run, record_view, render, whole_number
from pexpolicy_console.roles import Role

Rule = Mapping[str, Any]
SHOWN = 100
"""Number of rooms or rules on a page."""


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
    problem: str = ""

    def of(self, name: str) -> Hits:
        """Return the hits of a name, or of a rule as reasons have it."""
        return self.hits.get(name) or self.hits.get(name.partition(": ")[0], Hits())


async def _counted(request: web.Request, kind: str) -> Counted:
    """Count the hits of the last days, 14 or as many as the URL has."""
    count = min(whole_number(request.query.get("days", "")) or 14, 400)
    moments, index = days(count, time.time(), zone_of(request)), console_of(request).index
    try:
        first = await index.ask(since)
        found = await index.ask(partial(tallies, kind=kind, bounds=moments))
    except IndexUnavailable as error:
        return Counted({}, count, moments[0], moments[-1], None, str(error))
    most = max((tally.total for day in found for tally in day.values()), default=1)
    hits: dict[str, Hits] = {}
    for place, day in enumerate(found):
        for name, tally in day.items():
            total, last, path = hits.get(name, Hits())
            height = 16 * math.sqrt(tally.total / most)
            path += f"M{place} 16v-{height:.1f}h.8v{height:.1f}z"
            hits[name] = Hits(total + tally.total, max(last, tally.last / 1000), path)
    return Counted(hits, count, moments[0], moments[-1], first)


async def rooms(request: web.Request) -> web.StreamResponse:
    """List the rooms of the configuration on the disk, with their calls."""
    text = request.query.get("text", "").strip()
    skip = whole_number(request.query.get("skip", ""))
    show = request.query.get("show", "")
    hides = request[SESSION].role < Role.OPERATOR
    record_view(request, text=text)
    counted = await _counted(request, "room")
    names = sorted(counted.hits, key=lambda name: -counted.hits[name].total)
    chosen = {"hits": names, "unhit": names}.get(show)
    listed, failures = await dry_run(
        *(request, "rooms"),
        text=text,
        skip=skip,
        limit=SHOWN,
        hides_personal=hides,
        called=chosen,
        uncalled=show == "unhit",
    )
    return render(
        request,
        "rooms.html",
        text=text,
        skip=skip,
        step=SHOWN,
        show=show,
        listed=listed,
        failures=failures,
        counted=counted,
        link=link,
        may_look_up=not hides,
        removed=REMOVED,
    )


async def rules(request: web.Request) -> web.StreamResponse:
    """List the rules of the configuration on the disk, with their hits."""
    text = request.query.get("text", "").strip()
    skip = whole_number(request.query.get("skip", ""))
    show, sort = request.query.get("show", ""), request.query.get("sort", "")
    hides = request[SESSION].role < Role.OPERATOR
    record_view(request, text=text)
    found, failures = await dry_run(request, "rules", hides_personal=hides)
    counted = await _counted(request, "rule")
    listed: list[Rule] = found or []
    kinds = {
        "": listed,
        "refusing": [rule for rule in listed if "reject" in rule["actions"]],
        "unhit": [rule for rule in listed if not counted.of(rule["name"]).total],
    }
    matching = [rule for rule in kinds.get(show, listed) if _matches(rule, text.lower())]
    if sort == "hits":
        matching.sort(key=lambda rule: -counted.of(rule["name"]).total)
    return render(
        request,
        "rules.html",
        text=text,
        show=show,
        sort=sort,
        numbers={name: len(rules) for name, rules in kinds.items()},
        counted=counted,
        link=link,
        rules=matching[skip : skip + SHOWN],
        matching=len(matching),
        total=len(listed),
        skip=skip,
        step=SHOWN,
        failures=failures,
    )


def _matches(rule: Rule, text: str) -> bool:
    texts = (rule["name"], rule["condition"], rule["place"], *rule["endpoints"])
    return any(text in one.lower() for one in texts)


PAGES = (
    Page("/rooms", rooms, "Rooms"),
    Page("/rules", rules, "Rules"),
)
