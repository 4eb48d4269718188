"""The pages Rooms and Rules: what the configuration on the disk holds, and what decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pexpolicy.audit.redaction import REMOVED
from pexpolicy_console.context import SESSION, console_of
from pexpolicy_console.pages.page import Page, dry_run, record_view, render, whole_number
from pexpolicy_console.roles import Role
from pexpolicy_console.server_client import PluginState

Rule = Mapping[str, Any]
SHOWN = 100
"""Number of rooms or rules on a page."""


async def rooms(request: web.Request) -> web.StreamResponse:
    """List the rooms of the configuration on the disk."""
    text = request.query.get("text", "").strip()
    skip = whole_number(request.query.get("skip", ""))
    hides = request[SESSION].role < Role.OPERATOR
    record_view(request, text=text)
    listed, failures = await dry_run(
        request, "rooms", text=text, skip=skip, limit=SHOWN, hides_personal=hides
    )
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


async def rules(request: web.Request) -> web.StreamResponse:
    """List the rules of the configuration on the disk, with their hits in the server."""
    text = request.query.get("text", "").strip()
    skip = whole_number(request.query.get("skip", ""))
    hides = request[SESSION].role < Role.OPERATOR
    record_view(request, text=text)
    found, failures = await dry_run(request, "rules", hides_personal=hides)
    listed: list[Rule] = found or []
    status, _ = await console_of(request).server.status()
    plugins = {} if status is None else {plugin.name: plugin for plugin in status.plugins}
    matching = [rule for rule in listed if _matches(rule, text.lower())]
    return render(
        request,
        "rules.html",
        text=text,
        rules=[(rule, _hits(rule, plugins)) for rule in matching[skip : skip + SHOWN]],
        matching=len(matching),
        total=len(listed),
        skip=skip,
        step=SHOWN,
        failures=failures,
        workers=1.0 if status is None else status.workers,
    )


def _hits(rule: Rule, plugins: Mapping[str, PluginState]) -> Mapping[str, Any]:
    """Return how often a rule has decided since the last reload; nothing if the server does not
    say.
    """
    plugin = plugins.get(rule["plugin"])
    status: Any = None if plugin is None else plugin.status
    found = status.get(rule["name"]) if isinstance(status, dict) else None
    return found if isinstance(found, dict) else {}


def _matches(rule: Rule, text: str) -> bool:
    texts = (rule["name"], rule["condition"], rule["place"], *rule["endpoints"])
    return any(text in one.lower() for one in texts)


PAGES = (
    Page("/rooms", rooms, "Rooms"),
    Page("/rules", rules, "Rules"),
)
