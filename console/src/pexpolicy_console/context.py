"""What the handlers of requests share, what each request carries, and what a page is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp_jinja2
from aiohttp import hdrs, web

from pexpolicy.cli.for_console import TrustedProxies
from pexpolicy_console.action_log import ActionLog
from pexpolicy_console.children import DryRunFailed, DryRuns, Job
from pexpolicy_console.config_file import ConfigFile
from pexpolicy_console.index.index import Index
from pexpolicy_console.login.attempts import LoginAttempts
from pexpolicy_console.login.sessions import Role, Session, Sessions
from pexpolicy_console.server_client import ServerClient

Response = web.StreamResponse


@dataclass(frozen=True, slots=True)
class Console:
    """The parts of a running console."""

    config: ConfigFile
    server: ServerClient
    actions: ActionLog
    attempts: LoginAttempts
    index: Index
    dry_runs: DryRuns
    verification: Job
    replay: Job
    sessions: Sessions = field(default_factory=Sessions)
    streams: Counter[str] = field(default_factory=Counter)
    """Open streams of each user."""


CONSOLE = web.AppKey("console", Console)
SESSION: web.RequestKey[Session] = web.RequestKey("session", Session)
FORM: web.RequestKey[Mapping[str, str]] = web.RequestKey("form", Mapping[str, str])
"""The fields of a POST request."""
FALLBACK: web.RequestKey[str] = web.RequestKey("fallback", str)
"""Of when the files of a dry run are, if they are not the present ones."""


def console_of(request: web.Request) -> Console:
    """Return the console that answers a request."""
    return request.config_dict[CONSOLE]


def peer_of(request: web.Request) -> str:
    """Return the address that a request came from, behind trusted proxies."""
    peer = request.remote or ""
    trusted = TrustedProxies(console_of(request).config.settings.console.trusted_proxies)
    return (trusted.client(peer, request) or peer) if trusted.holds(peer) else peer


def render(request: web.Request, template: str, status: int = 200, **values: Any) -> Response:
    """Return a page from a template, with the ``values`` that it uses."""
    values["fallback"] = request.get(FALLBACK, "")
    response = aiohttp_jinja2.render_template(template, request, values, status=status)
    response.enable_compression()
    return response


def whole_number(text: str) -> int:
    """Return the number in the query of a URL; 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0  # noqa: PLR2004 - digits


def redirect(url: str) -> Response:
    """Return a response in which a cookie can be set, and that leads to another page."""
    return web.Response(status=303, headers={hdrs.LOCATION: url})


def attachment(name: str, kind: str) -> dict[str, str]:
    """Return the headers of a file that the browser stores."""
    return {
        hdrs.CONTENT_TYPE: kind,
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="{name}"',
    }


class PageError(Exception):
    """There is nothing to show: the text of a page, and its status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Visit:
    """A request of a user who is logged in, and what its handler needs to answer it."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self.console = console_of(request)
        self.session = request[SESSION]

    @property
    def form(self) -> Mapping[str, str]:
        """The fields of a POST request."""
        return self.request[FORM]

    @property
    def hides_names(self) -> bool:
        """Whether ``[privacy]`` hides from the user what may name people, such as errors."""
        return self.session.role < Role.OPERATOR and self.console.config.personal is not None

    def text(self, name: str) -> str:
        """Return a parameter of the URL; empty without it."""
        return self.request.query.get(name, "").strip()

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page from a template, with the ``values`` that it uses."""
        return render(self.request, template, status, **values)

    async def dry_run(self, question: str, /, **arguments: Any) -> tuple[Any, list[str]]:
        """Return the answer of the configuration on the disk; ``None`` and why if there is none."""
        runs = self.console.dry_runs
        try:
            answer = await runs.ask(question, **arguments)
        except DryRunFailed as error:
            return None, error.failures
        self.request[FALLBACK] = runs.fallback
        return answer, []

    def record(self, event: str, **what: Any) -> None:
        """Record an action of the user, before it is done; raise ``ActionLogError``."""
        user, role, peer = self.session.user, self.session.role.label, peer_of(self.request)
        self.console.actions.record(event, user, peer, role=role, **what)

    def record_view(self, **what: Any) -> None:
        """Record likewise that the user is shown personal data."""
        self.record("view", path=self.request.path, **what)


Handler = Callable[[Visit], Awaitable[Response]]


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

    async def answer(self, request: web.Request) -> Response:
        """Answer a request that the guard has let pass."""
        return await self.handler(Visit(request))
