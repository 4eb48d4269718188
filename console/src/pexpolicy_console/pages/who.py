"""The page Who gets what: the answers of each endpoint for one alias, and where they are
written.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from pexpolicy_console.children import DryRunFailed
from pexpolicy_console.context import console_of
from pexpolicy_console.pages.page import Page, record, render
from pexpolicy_console.periods import time_of_question
from pexpolicy_console.roles import Role


async def who(request: web.Request) -> web.StreamResponse:
    """Look one alias up."""
    alias = request.query.get("alias", "").strip()
    at, zone = (request.query.get(name, "").strip() for name in ("at", "zone"))
    found: dict[str, Any] | None = None
    failures: list[str] = []
    if alias:
        record(request, "look up", alias=alias[:250])
        try:
            moment = time_of_question(at, zone)
            found = await console_of(request).dry_runs.ask("look_up", alias=alias, at=moment)
        except ValueError as error:
            failures = [str(error)]
        except DryRunFailed as error:
            failures = error.failures
    return render(
        request, "who.html", alias=alias, at=at, zone=zone, found=found, failures=failures
    )


PAGES = (Page("/who", who, "Who gets what", Role.OPERATOR),)
