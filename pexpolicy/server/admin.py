"""The admin listener: health, status, metrics, and the routes of plugins."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import orjson
from aiohttp import hdrs, web

from pexpolicy.access.access_control import AccessControl
from pexpolicy.access.connections import Connection, ConnectionLimits
from pexpolicy.access.credentials import CancellableSleeps, LoginThrottle
from pexpolicy.access.refusals import FOREIGN_HOST, WRONG_TOKEN, RefusalLog
from pexpolicy.chain.failure_log import PluginFailureLog
from pexpolicy.config.settings import Settings
from pexpolicy.endpoints.base import JSON
from pexpolicy.errors import Log, describe_error, describe_network_error
from pexpolicy.models.context import HOOK_CONTEXT
from pexpolicy.models.outcome import BUSY, TIMED_OUT
from pexpolicy.observability.snapshot import CONTENT_TYPE, expose
from pexpolicy.observability.status import Status
from pexpolicy.observability.telemetry import Telemetry
from pexpolicy.plugins.binding import PREFIX, PluginRoutes
from pexpolicy.server.generations import GENERATION_DRAIN_TIMEOUT_S, Generation
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.bounded_handler import BodyLimit
from pexpolicy.server.http.listener import Endpoint
from pexpolicy.server.http.protocol import PolicyProtocol
from pexpolicy.server.http.response import (
    READABLE,
    SERVER,
    TEXT,
    PrerenderedResponse,
    health,
    not_allowed,
)
from pexpolicy.tasks import run_in_thread
from pexpolicy.text import readable

PUBLIC_PATHS = ("/livez", "/readyz")
"""Health checks, which need no token."""
PROTECTED_PATHS = ("/status", "/metrics")
_HOST = re.compile(r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^:\[\]]+))(?::\d*)?")
FOREIGN_HOST_TEXT = (
    b"without a token use an IP address or localhost in the URL, and no page of a browser\n"
)


class AdminApp:
    """The aiohttp request handler of the admin listener.

    ``generation`` returns the active generation.
    """

    def __init__(
        self,
        generation: Callable[[], Generation],
        telemetry: Telemetry,
        refusals: RefusalLog,
        log: Log,
    ) -> None:
        self._generation = generation
        self._refusals = refusals
        self._throttle = LoginThrottle()
        self._delays = CancellableSleeps()
        self._status = Status(lambda: generation().policy, telemetry)
        self._plugin_requests = PluginRequests(log)
        self._telemetry = telemetry
        self._log = log

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        path = request.rel_url.raw_path
        if path.startswith(PREFIX):
            refused = await self._refused(request, path)
            return refused or await self._plugin_requests.answer(request, self._generation())
        if path not in (*PUBLIC_PATHS, *PROTECTED_PATHS):
            paths = "\n".join((*PUBLIC_PATHS, *PROTECTED_PATHS, f"{PREFIX}NAME/"))
            return PrerenderedResponse(
                404, TEXT, f"the paths of this listener:\n{paths}\n".encode()
            )
        if request.method not in READABLE:
            return not_allowed()
        if path in PROTECTED_PATHS and (refused := await self._refused(request, path)) is not None:
            return refused
        try:
            return await self._answer(request, path)
        except Exception as error:  # noqa: BLE001 - operators must see it
            summary = describe_error(error).summary
            self._log.warning("internal fault", path=path, error=summary)
            return PrerenderedResponse(500, TEXT, f"{summary}\n".encode())

    async def _refused(self, request: web.BaseRequest, path: str) -> PrerenderedResponse | None:
        """Return the response to an unauthorized request; delay each wrong token longer."""
        settings = self._generation().policy.settings
        connection: Connection | None = getattr(request.protocol, "connection", None)
        peer = connection.peer if connection is not None else request.remote or ""
        token = settings.admin_token
        if token is None:
            host = request.headers.get(hdrs.HOST)
            # A page of another site could send a form to a plugin; browsers add Origin to that.
            if is_own_host(host, settings.admin.host) and hdrs.ORIGIN not in request.headers:
                return None
            self._refusals.note(FOREIGN_HOST, HTTPStatus.MISDIRECTED_REQUEST, peer, path=path)
            return PrerenderedResponse(HTTPStatus.MISDIRECTED_REQUEST, TEXT, FOREIGN_HOST_TEXT)
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        if is_authorized(token.get_secret_value(), authorization):
            return None
        self._refusals.note(WRONG_TOKEN, HTTPStatus.UNAUTHORIZED, peer, path=path)
        if authorization:
            now = asyncio.get_running_loop().time()
            await self._delays.wait(self._throttle.record_failure(peer, now))
        return PrerenderedResponse(401, "", b"", extra=b"\r\nWWW-Authenticate: Bearer")

    async def _reasons(self, request: web.BaseRequest, path: str) -> list[str]:
        """Return why the server is not ready; without errors and paths for a client that may not
        read ``/status``.
        """
        sources = self._telemetry.sources
        reasons = sources.not_ready_reasons()
        has_token = self._generation().policy.settings.admin_token is not None
        if (reasons and has_token and hdrs.AUTHORIZATION not in request.headers) or (
            reasons and await self._refused(request, path)
        ):
            return sources.public_reasons()
        return reasons

    async def _answer(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if path in PUBLIC_PATHS:
            return health(path, await self._reasons(request, path))
        self._telemetry.sample()
        if path == "/status":
            status = readable(await self._status.document())
            return PrerenderedResponse(200, JSON, orjson.dumps(status, option=orjson.OPT_INDENT_2))
        merged = await self._telemetry.merged()
        text = await run_in_thread(lambda: expose(merged), "pexpolicy-metrics")
        return PrerenderedResponse(200, CONTENT_TYPE, text)

    def close(self) -> None:
        """Release delayed replies."""
        self._delays.cancel()
        self._status.close()
        self._plugin_requests.close()


def is_authorized(token: str, header: str | None) -> bool:
    """Return whether an ``Authorization`` header holds the bearer token (RFC 6750).

    The comparison takes constant time for tokens of the same length.
    """
    scheme, _, credentials = (header or "").partition(" ")
    sent = credentials.strip().encode("utf-8", "surrogateescape")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent, token.encode())


def is_own_host(header: str | None, configured: str) -> bool:
    """Return whether a ``Host`` header excludes DNS rebinding.

    A page of another site can resolve its own name to this address, but the browser still sends
    that name. It cannot send an IP address, ``localhost`` or the configured name.
    """
    if not header:
        return True  # every browser sends it
    found = _HOST.fullmatch(header)
    if found is None:
        return False
    name = found["bracketed"] or found["plain"]
    if name.lower() in ("localhost", configured.lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


TIMEOUT_S = GENERATION_DRAIN_TIMEOUT_S - 1.0
"""For a request, until its last byte is written: it ends before its generation is closed."""
MAX_IN_FLIGHT = 16
"""Requests to one plugin that are answered at once; the listener has more connections."""


class PluginRequests:
    """Answers the requests below ``/plugins/``; a failing handler is logged once a minute."""

    def __init__(self, log: Log) -> None:
        self._failure_log = PluginFailureLog(log, "routes")

    def close(self) -> None:
        """Log the failures that were left out."""
        self._failure_log.close()

    async def answer(self, request: web.Request, generation: Generation) -> web.StreamResponse:
        """Answer a request with the plugins of a generation, which stays open meanwhile."""
        name = unquote(request.rel_url.raw_path.removeprefix(PREFIX).partition("/")[0])
        routes = generation.policy.routes.get(name)
        if routes is None:
            return PrerenderedResponse(404, TEXT, b"no active plugin of this name has routes\n")
        now = asyncio.get_running_loop().time()
        if routes.in_flight >= MAX_IN_FLIGHT:
            text = f"{MAX_IN_FLIGHT} requests are in flight"
            self._failure_log.step(name, BUSY, text, now)
            return _failure(HTTPStatus.SERVICE_UNAVAILABLE, f"{name} is busy: {text}")
        routes.in_flight += 1
        generation.calls.in_flight += 1
        try:
            return await self._answer(request, generation, routes)
        finally:
            routes.in_flight -= 1
            generation.calls.end()

    async def _answer(
        self, request: web.Request, generation: Generation, routes: PluginRoutes
    ) -> web.StreamResponse:
        protocol = cast("PolicyProtocol", request.protocol)
        protocol.flush()
        work = _Handling(request, routes)
        in_time = await generation.policy.run(work, TIMEOUT_S)
        if work.response is not None:
            return work.response
        now, plugin = asyncio.get_running_loop().time(), routes.plugin
        if not in_time:
            self._failure_log.step(plugin, TIMED_OUT, f"no answer within {TIMEOUT_S:.3g} s", now)
            status, text = HTTPStatus.GATEWAY_TIMEOUT, f"{plugin} did not answer in time"
        else:
            transport = request.transport
            if work.error is not None and transport is not None and not transport.is_closing():
                report = describe_error(work.error)
                self._failure_log.failed("plugin failed", plugin, report, now)
            status, text = HTTPStatus.INTERNAL_SERVER_ERROR, f"{plugin} failed: see the log"
        if request.writer.output_size > 0:
            # Half of its own response has been sent.
            protocol.connection.close()
        return _failure(status, text)


class _Handling:
    """The work of one request: the handler of the plugin, and the writing of its response."""

    def __init__(self, request: web.Request, routes: PluginRoutes) -> None:
        self.names = (routes.plugin, "routes")
        self.response: web.StreamResponse | None = None
        self.error: BaseException | None = None
        self._request = request
        self._app = routes.app

    async def run(self) -> None:
        HOOK_CONTEXT.set((self.names, None))
        try:
            self.response = await self._respond()
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self.error = error

    async def _respond(self) -> web.StreamResponse:
        try:
            response = await self._app._handle(self._request)  # noqa: SLF001 - it has no public way
        except web.HTTPException as raised:
            response = raised
        if not isinstance(response, web.StreamResponse):
            raise TypeError(f"the handler returned {type(response).__name__}, not a response")
        if not response.prepared:
            if self._request.writer.output_size > 0:
                raise TypeError("the handler returned another response than the one it has sent")
            response.headers.setdefault(hdrs.SERVER, SERVER)
        # Written here and not by aiohttp, where a failure would be one of the server.
        await response.prepare(self._request)
        await response.write_eof()
        return response


def _failure(status: HTTPStatus, text: str) -> PrerenderedResponse:
    """Return the response of a failed request; a late handler may still write, so it closes."""
    response = PrerenderedResponse(status, TEXT, f"{text}\n".encode())
    response.force_close()
    return response


BACKLOG = 64
LIMITS = ConnectionLimits(total=64, per_peer=64)
"""Limits of this listener, which nodes never call."""
ADMIN_DRAIN_TIMEOUT_S = 1.0
"""Seconds to answer the requests in flight on shutdown."""
BODIES = BodyLimit(PREFIX, 1 << 16)
"""The bodies of requests to plugins."""


class _AdminProtocol(PolicyProtocol):
    __slots__ = ()

    bodies = BODIES


def bind(settings: Settings, log: Log, port: int | None = None) -> socket.socket | None:
    """Return the socket of ``[admin]``; ``None`` if it is disabled or cannot be bound.

    If the port is in use, the server logs a warning and runs without metrics. ``port`` overrides
    the configured one. Workers share the socket, so it is bound before they are forked.
    """
    admin = settings.admin
    if not admin.enabled:
        return None
    number = admin.port if port is None else port
    family = socket.AF_INET6 if ":" in admin.host else socket.AF_INET
    try:
        listener = socket.create_server((admin.host, number), family=family, backlog=BACKLOG)
    except OSError as error:
        problem = describe_network_error(error)
        text = f"admin listener: cannot listen on {admin.host}:{number}: {problem}"
        log.warning(text, consequence="no status and no metrics; calls are answered")
        return None
    listener.settimeout(0)
    return listener


@dataclass(frozen=True, slots=True)
class AdminEndpoint(AbstractContextManager["AdminEndpoint"]):
    """The admin socket, if any; leaving it closes the socket."""

    listener: socket.socket | None = None

    def __exit__(self, *_: object) -> None:
        if self.listener is not None:
            self.listener.close()

    @property
    def url(self) -> str:
        """The base URL of the admin listener; empty without one."""
        if self.listener is None:
            return ""
        host, port = self.listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def admin_listener(app: PolicyApp, listener: socket.socket | None) -> AsyncIterator[None]:
    """Sample the gauges, and answer operators on a socket if there is one."""
    with app.telemetry:
        if listener is None:
            yield
            return
        admin = AdminApp(lambda: app.generation, app.telemetry, app.refusals, app.log)
        # A request that an application of a plugin can route.
        loop = asyncio.get_running_loop()
        request = partial(web.Request, loop=loop, client_max_size=BODIES.size)
        server = web.Server(cast("Any", admin), request_factory=request)
        access = AccessControl()
        endpoint = Endpoint(
            server,
            access=lambda: access,
            refusals=app.refusals,
            limits=LIMITS,
            log=app.log,
            flush_audit=app.generation.audit.flush,
            shared=True,
            kind=_AdminProtocol,
        )
        try:
            async with endpoint.open([listener]):
                yield
        finally:
            admin.close()
            server.pre_shutdown()
            await server.shutdown(ADMIN_DRAIN_TIMEOUT_S)
