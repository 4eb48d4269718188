"""The page Rooms: each alias with its room, and where that is written."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from pexpolicy.audit.redaction import REMOVED
from pexpolicy_console.children import DryRunFailed
from pexpolicy_console.context import console_of, session_of
from pexpolicy_console.pages.page import Page, record_view, render, whole_number
from pexpolicy_console.roles import Role

SHOWN = 100
"""Number of rooms on a page."""


async def rooms(request: web.Request) -> web.StreamResponse:
    """List the rooms of the configuration on the disk."""
    text = request.query.get("text", "").strip()
    skip = whole_number(request.query.get("skip", ""))
    hides = session_of(request).role < Role.OPERATOR
    record_view(request, text=text)
    listed: dict[str, Any] | None = None
    failures: list[str] = []
    try:
        listed = await console_of(request).dry_runs.ask(
            "rooms", text=text, skip=skip, limit=SHOWN, hides_personal=hides
        )
    except DryRunFailed as error:
        failures = error.failures
    return render(
        request,
        "rooms.html",
        text=text,
        skip=skip,
        step=SHOWN,
        listed=listed,
        failures=failures,
        may_look_up=not hides,
        removed=REMOVED,
    )


PAGES = (Page("/rooms", rooms, "Rooms"),)
