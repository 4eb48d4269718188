"""A page of the console: its path, the role that it needs, and its template."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp_jinja2
from aiohttp import hdrs, web

from pexpolicy_console.children import DryRunFailed
from pexpolicy_console.context import SESSION, console_of, peer_of
from pexpolicy_console.roles import Role

FALLBACK: web.RequestKey[str] = web.RequestKey("fallback", str)
"""Of when the files of a dry run are, if they are not the present ones."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Page:
    """A route of the console. Nobody below ``role`` reaches ``handler``.

    ``title`` is its name in the navigation, where it is shown to users of that role; without one it
    is not there. Requests of another ``method`` than GET have an origin and a CSRF token that were
    checked.
    """

    path: str
    handler: Handler
    title: str = ""
    role: Role = Role.VIEWER
    method: str = hdrs.METH_GET
    plugin: str = ""
    """The plugin that has to be active."""


def render(
    request: web.Request, template: str, status: int = 200, **values: Any
) -> web.StreamResponse:
    """Return a page from a template, with the ``values`` that it uses."""
    values["fallback"] = request.get(FALLBACK, "")
    response = aiohttp_jinja2.render_template(template, request, values, status=status)
    response.enable_compression()
    return response


async def dry_run(
    request: web.Request, question: str, /, **arguments: Any
) -> tuple[Any, list[str]]:
    """Return the answer of the configuration on the disk; ``None`` and why if there is none."""
    runs = console_of(request).dry_runs
    try:
        answer = await runs.ask(question, **arguments)
    except DryRunFailed as error:
        return None, error.failures
    request[FALLBACK] = runs.fallback
    return answer, []


def whole_number(text: str) -> int:
    """Return the number in the query of a URL; 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004 - digits


def hides_names(request: web.Request) -> bool:
    """Return whether ``[privacy]`` hides from the user what may name people, such as the texts of
    errors in the configuration.
    """
    is_viewer = request[SESSION].role < Role.OPERATOR
    return is_viewer and console_of(request).config.personal is not None


def record_view(request: web.Request, **what: Any) -> None:
    """Record in the console's own audit that the user is shown personal data."""
    record(request, "view", path=request.path, **what)


def record(request: web.Request, event: str, **what: Any) -> None:
    """Record an action of the user in the console's own audit; raise ``ActionLogError``.

    Call it before the action.
    """
    session = request[SESSION]
    role = session.role.label
    console_of(request).actions.record(event, session.user, peer_of(request), role=role, **what)
