"""The page Overview: is the server ready, and what does it do."""

from __future__ import annotations

from aiohttp import web

from pexpolicy_console.context import console_of
from pexpolicy_console.pages.page import Page, render
from pexpolicy_console.server_client import ServerStatus, ServerUnavailable


async def overview(request: web.Request) -> web.StreamResponse:
    """Show the state of the server."""
    status: ServerStatus | None = None
    problem = ""
    try:
        status = await console_of(request).server.status()
    except ServerUnavailable as error:
        problem = str(error)
    return render(request, "overview.html", server=status, problem=problem)


PAGES = (Page("/", overview, "Overview"),)
