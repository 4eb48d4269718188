"""What the handlers of requests share, what each request carries, and what a page is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp_jinja2
from aiohttp import hdrs, web

from pexpolicy.cli.for_console import TrustedProxies
from pexpolicy_console.action_log import ActionLog
from pexpolicy_console.children import DryRunFailed, DryRuns, Job
from pexpolicy_console.config_file import ConfigFile
from pexpolicy_console.index.index import Index
from pexpolicy_console.login.attempts import LoginAttempts
from pexpolicy_console.login.sessions import Role, Session, Sessions
from pexpolicy_console.server_client import Document, ServerClient

Response = web.StreamResponse
Result = TypeVar("Result")


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


CONSOLE = web.AppKey("console", Console)
SESSION: web.RequestKey[Session] = web.RequestKey("session", Session)
FORM: web.RequestKey[Mapping[str, str]] = web.RequestKey("form", Mapping[str, str])
"""The fields of a POST request."""


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
    values = {"problems": (), "failures": (), "fallback": "", **values}
    response = aiohttp_jinja2.render_template(template, request, values, status=status)
    response.enable_compression()
    return response


def whole_number(text: str) -> int:
    """Return the number in the query of a URL; 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0  # noqa: PLR2004 - digits


def redirect(url: str) -> Response:
    """Return a response in which a cookie can be set, and that leads to another page."""
    return web.Response(status=303, headers={hdrs.LOCATION: url})


def attachment(content: bytes, name: str, kind: str) -> Response:
    """Return a file that the browser stores."""
    headers = {hdrs.CONTENT_DISPOSITION: f'attachment; filename="{name}"', hdrs.CONTENT_TYPE: kind}
    return web.Response(body=content, headers=headers)


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
        self.problems: list[str] = []
        """What the page says above its content, each once."""
        self.failures: list[str] = []
        """Likewise why a dry run has no answer, but not to viewers if it may name people."""
        self.fallback = ""
        """Of when the files of a dry run are, if they are not the present ones."""

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
        problems = [*dict.fromkeys(self.problems)]
        values |= {"problems": problems, "failures": self.failures, "fallback": self.fallback}
        return render(self.request, template, status, **values)

    async def search(self, search: Callable[..., Result], *arguments: Any) -> Result | None:
        """Return what a search of the index finds; ``None`` and a problem if it cannot."""
        index = self.console.index
        found, problem = await index.ask(search, *arguments)
        self.problems += filter(None, (problem, index.state.problem))
        return found

    async def status(self) -> Document | None:
        """Return the status of the server; without one, the header of the page says why."""
        return await self.console.server.status()

    async def ask_server(self, path: str, author: str = "") -> Document | None:
        """Return what the admin listener answers; ``None`` and a problem if it does not."""
        found, problem = await self.console.server.ask(path, author)
        self.problems += filter(None, (problem,))
        return found

    async def dry_run(self, question: str, /, **arguments: Any) -> Any:
        """Return the answer of the configuration on the disk; ``None`` if there is none."""
        runs, answer = self.console.dry_runs, None
        try:
            answer = await runs.ask(question, **arguments)
            self.fallback = runs.fallback
        except DryRunFailed as error:
            self.failures += error.failures
        return answer

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
