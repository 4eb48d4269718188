"""The application: routes, templates and static files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import hdrs, web

from pexpolicy_console.action_log import ActionLogError
from pexpolicy_console.context import CONSOLE, SESSION, Console
from pexpolicy_console.forms import MAX_BODY
from pexpolicy_console.guard import Guard, add_headers
from pexpolicy_console.login import pages as login_pages
from pexpolicy_console.pages import (
    audit,
    blocks,
    calls,
    changes,
    decision,
    decisions,
    listings,
    live,
    nodes,
    overview,
    plugins,
    stream,
    try_request,
)
from pexpolicy_console.pages.page import Page, hides_names, render
from pexpolicy_console.roles import Role
from pexpolicy_console.server_client import ServerStatus
from pexpolicy_console.template_filters import FILTERS, shown

_log = logging.getLogger(__name__)
FOLDER = Path(__file__).parent
CACHED = "no-cache"
"""Compared at each use: a page and a script of different releases do not fit."""

PAGES: tuple[Page, ...] = (
    *overview.PAGES,
    *calls.PAGES,
    *decisions.PAGES,
    *stream.PAGES,
    *decision.PAGES,
    *try_request.PAGES,
    *listings.PAGES,
    *plugins.PAGES,
    *nodes.PAGES,
    *blocks.PAGES,
    *changes.PAGES,
    *live.PAGES,
    *audit.PAGES,
)
"""The pages, in any order: the navigation has its own."""
NAVIGATION = {
    "Calls": ("Overview", "Decisions", "Live and limits", "Meetings"),
    "Policy": ("Changes", "Rules", "Rooms", "Plugins", "Blocked"),
    "Ask": ("Try a request", "Who gets what"),
    "Platform": ("Servers", "Nodes", "Audit"),
}
"""The titles of pages in each group of the navigation."""


def create_app(console: Console) -> web.Application:
    """Return the application of a console."""
    roles: dict[object, Role] = {}
    public: set[object] = set()
    app = web.Application(
        middlewares=[Guard(roles, public).check, _errors], client_max_size=MAX_BODY
    )
    app[CONSOLE] = console
    app.on_response_prepare.append(add_headers)
    app.cleanup_ctx.append(_parts)
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        context_processors=[_context],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    for page in (*PAGES, *login_pages.PAGES):
        resource = app.router.add_resource(page.path)
        resource.add_route(page.method, page.handler)
        roles[page.method, resource] = page.role
        if page.method == hdrs.METH_GET:
            resource.add_route(hdrs.METH_HEAD, page.handler)
            roles[hdrs.METH_HEAD, resource] = page.role
    login = login_pages.LoginPages()
    resource = app.router.add_resource("/login")
    resource.add_route(hdrs.METH_GET, login.show)
    resource.add_route(hdrs.METH_HEAD, login.show)
    resource.add_route(hdrs.METH_POST, login.log_in)
    if console.config.settings.console.oidc is not None:
        from pexpolicy_console.login import oidc  # noqa: PLC0415 - it needs an extra

        by_provider = oidc.OidcLogin()
        for path, handler in (("/login/oidc", by_provider.begin), (oidc.CALLBACK, by_provider.end)):
            public.add(app.router.add_resource(path).add_route(hdrs.METH_GET, handler).resource)
    public |= {resource, app.router.add_static("/static", FOLDER / "static")}
    return app


async def _context(request: web.Request) -> dict[str, Any]:
    """Return what each template may use."""
    session = request.get(SESSION)
    console = request.config_dict[CONSOLE]
    if session is not None:
        await console.server.look()
    return {
        "is_operator": session is not None and session.role >= Role.OPERATOR,
        "is_admin": session is not None and session.role >= Role.ADMIN,
        "hides_names": session is not None and hides_names(request),
        "label": console.config.settings.console.label,
        "navigation": [] if session is None else _navigation(session.role, console.server.last),
        "badges": _badges(console.server.last) | {"/servers": len(console.server.odd_servers)},
        "now": datetime.now(UTC),
        "server_client": console.server,
        "path": request.path,
        "session": session,
    }


def _badges(status: ServerStatus | None) -> dict[str, int]:
    """Return how many parts of a page need attention, by its path."""
    if status is None:
        return {}
    plugins = sum(bool(one.breaker_open or one.has_stuck_calls) for one in status.plugins)
    refused = sum(not node.calls and bool(node.last_refused) for node in status.nodes)
    return {"/plugins": plugins, "/nodes": refused}


def _navigation(role: Role, status: ServerStatus | None) -> list[tuple[str, list[Page]]]:
    """Return the groups of pages that a user of a role may open."""
    active = {"", *(one.name for one in status.plugins)} if status is not None else {""}
    pages = {
        page.title: page
        for page in PAGES
        if page.title and page.role <= role and page.plugin in active
    }
    return [
        (group, [pages[title] for title in titles if title in pages])
        for group, titles in NAVIGATION.items()
    ]


async def _parts(app: web.Application) -> AsyncIterator[None]:
    console = app[CONSOLE]
    console.index.open()
    try:
        yield
    finally:
        for child in (console.dry_runs, console.verification, console.replay):
            await child.aclose()
        console.attempts.close()
        await asyncio.to_thread(console.index.close)


@web.middleware
async def _errors(request: web.Request, handler: Any) -> web.StreamResponse:
    """Show errors as pages, without what they hold."""
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        if error.status < 400 or SESSION not in request:  # noqa: PLR2004 - redirects are no errors
            raise
        problem = f"{error.status} {error.reason}"
        return render(request, "error.html", error.status, problem=problem)
    except ActionLogError as error:
        _log.warning("%s", error)
        problem = f"{error} Nothing is shown or done that it would not record."
        return render(request, "error.html", HTTPStatus.SERVICE_UNAVAILABLE, problem=problem)
    if request.path.startswith("/static/"):
        response.headers[hdrs.CACHE_CONTROL] = CACHED
    return response
