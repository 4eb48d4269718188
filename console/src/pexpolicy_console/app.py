"""The application: routes, templates and static files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from pexpolicy_console.action_log import ActionLogError
from pexpolicy_console.context import CONSOLE, SESSION, Console, Page, PageError, Visit, render
from pexpolicy_console.guard import SAFE, add_headers, guard
from pexpolicy_console.login import pages as login_pages
from pexpolicy_console.login.sessions import Role
from pexpolicy_console.pages import (
    blocks,
    changes,
    decision,
    decisions,
    listings,
    live,
    overview,
    plugins,
    try_request,
)
from pexpolicy_console.protocol import MAX_BODY
from pexpolicy_console.server_client import Document
from pexpolicy_console.template_filters import FILTERS, shown

_log = logging.getLogger(__name__)
FOLDER = Path(__file__).parent

MODULES: tuple[ModuleType, ...] = (overview, decisions, decision, try_request, listings, plugins)
MODULES += (blocks, changes, live, login_pages)
"""A path without parameters stands before one with them."""
PAGES: tuple[Page, ...] = tuple(page for module in MODULES for page in module.PAGES)
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
    app = web.Application(middlewares=[guard(roles, public), _errors], client_max_size=MAX_BODY)
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
    for page in PAGES:
        resource = app.router.add_resource(page.path)
        for method in SAFE if page.method in SAFE else (page.method,):
            resource.add_route(method, page.answer)
            roles[method, resource] = page.role
    login = app.router.add_resource("/login")
    for method in SAFE:
        login.add_route(method, login_pages.show)
    login.add_route(hdrs.METH_POST, login_pages.log_in)
    if console.config.settings.console.oidc is not None:
        from pexpolicy_console.login import oidc  # noqa: PLC0415 - it needs an extra

        by_provider = oidc.OidcLogin()
        for path, handler in (("/login/oidc", by_provider.begin), (oidc.CALLBACK, by_provider.end)):
            public.add(app.router.add_resource(path).add_route(hdrs.METH_GET, handler).resource)
    public |= {login, app.router.add_static("/static", FOLDER / "static")}
    return app


async def _context(request: web.Request) -> dict[str, Any]:
    """Return what each template may use."""
    session = request.get(SESSION)
    console, role = request.config_dict[CONSOLE], 0 if session is None else session.role
    if session is not None:
        await console.server.look()
    status = console.server.last or Document(plugins=[], nodes=[])
    active = {"", *(one.name for one in status.plugins)}
    pages = {one.title: one for one in PAGES if one.role <= role and one.plugin in active}
    return {
        "console": console,
        "is_operator": role >= Role.OPERATOR,
        "is_admin": role >= Role.ADMIN,
        "hides_names": session is not None and Visit(request).hides_names,
        "label": console.config.settings.console.label,
        "navigation": [
            (group, [pages[title] for title in titles if title in pages])
            for group, titles in NAVIGATION.items()
        ],
        # How many parts of a page need attention.
        "badges": {
            "/plugins": sum(
                bool(one.breaker_open or one.has_stuck_calls) for one in status.plugins
            ),
            "/nodes": sum(not one.calls and bool(one.last_refused) for one in status.nodes),
            "/servers": len(console.server.odd_servers),
        },
        "now": datetime.now(UTC),
        "path": request.path,
        "session": session,
    }


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
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Show errors as pages, without what they hold."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400 or SESSION not in request:  # noqa: PLR2004 - redirects are no errors
            raise
        status, problem = error.status, f"{error.status} {error.reason}"
    except PageError as error:
        status, problem = error.status, str(error)
    except ActionLogError as error:
        _log.warning("%s", error)
        problem = f"{error} Nothing is shown or done that it would not record."
        status = HTTPStatus.SERVICE_UNAVAILABLE
    return render(request, "error.html", status, problem=problem)
