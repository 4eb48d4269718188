"""The admin listener: health, status, metrics, and the routes of plugins."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import orjson
from aiohttp import hdrs, web

from pexpolicy.access.access_control import AccessControl
from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.access.credentials import LoginThrottle
from pexpolicy.access.refusals import FOREIGN_HOST, WRONG_TOKEN
from pexpolicy.chain.failure_log import PluginFailureLog
from pexpolicy.config.settings import Settings
from pexpolicy.endpoints.base import JSON
from pexpolicy.errors import Log, describe_error, describe_network_error
from pexpolicy.fleet.members import Member, ask_all, document_of
from pexpolicy.models.context import HOOK_CONTEXT
from pexpolicy.models.outcome import TIMED_OUT
from pexpolicy.observability.snapshot import CONTENT_TYPE, expose
from pexpolicy.observability.status import PluginStatuses, document
from pexpolicy.plugins.binding import PREFIX, PluginRoutes
from pexpolicy.server.generations import GENERATION_DRAIN_TIMEOUT_S
from pexpolicy.server.http import listener
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.bounded_handler import BodyLimit
from pexpolicy.server.http.protocol import (
    READABLE,
    SERVER,
    TEXT,
    PolicyProtocol,
    PrerenderedResponse,
    health,
    not_allowed,
)
from pexpolicy.tasks import run_in_thread
from pexpolicy.text import readable

TIMEOUT_S = GENERATION_DRAIN_TIMEOUT_S - 1.0
"""For a request to a plugin, until its last byte is written: it ends before its generation is
closed.
"""
FLEET_KEPT_S = 2.0
LIMITS = ConnectionLimits(total=64, per_peer=64)
"""Limits of this listener, which nodes never call."""
ADMIN_DRAIN_TIMEOUT_S = 1.0
"""Seconds to answer the requests in flight on shutdown."""
BODIES = BodyLimit(PREFIX, 1 << 16)
"""The bodies of requests to plugins."""
_HOST = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::\d*)?")
FOREIGN_HOST_TEXT = (
    b"without a token use an IP address or localhost in the URL, and no page of a browser\n"
)


class AdminApp:
    """The aiohttp request handler of the admin listener."""

    def __init__(self, app: PolicyApp) -> None:
        self._app = app
        self._throttle = LoginThrottle()
        self._reports = PluginStatuses()
        self._fleet: tuple[float, asyncio.Task[list[Member]]] | None = None
        self._failure_log = PluginFailureLog(app.log, "routes")
        self._pages = {
            "/livez": self._health,
            "/readyz": self._health,
            "/status": self._show_status,
            "/fleet": self._show_fleet,
            "/metrics": self._show_metrics,
        }

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a request; the health checks need no token."""
        path = request.rel_url.raw_path
        answer = self._pages.get(path)
        if answer is None and path.startswith(PREFIX):
            answer = self._ask_plugin
        elif answer is None:
            paths = "\n".join((*self._pages, f"{PREFIX}NAME/"))
            text = f"the paths of this listener:\n{paths}\n"
            return PrerenderedResponse(404, TEXT, text.encode())
        elif request.method not in READABLE:
            return not_allowed()
        if answer != self._health and (refused := await self._refused(request)) is not None:
            return refused
        return await answer(request)

    async def _refused(self, request: web.Request) -> PrerenderedResponse | None:
        """Return the response to an unauthorized request; delay each wrong token longer."""
        settings = self._app.generation.policy.settings
        peer = cast("PolicyProtocol", request.protocol).connection.peer
        note, token = self._app.refusals.note, settings.admin_token
        path = request.rel_url.raw_path
        if token is None:
            host = request.headers.get(hdrs.HOST)
            # A page of another site could send a form to a plugin; browsers add Origin to that.
            if is_own_host(host, settings.admin.host) and hdrs.ORIGIN not in request.headers:
                return None
            note(FOREIGN_HOST, HTTPStatus.MISDIRECTED_REQUEST, peer, path=path)
            return PrerenderedResponse(HTTPStatus.MISDIRECTED_REQUEST, TEXT, FOREIGN_HOST_TEXT)
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        scheme, _, sent = authorization.partition(" ")
        credentials = sent.strip().encode("utf-8", "surrogateescape")
        is_right = hmac.compare_digest(credentials, token.get_secret_value().encode())
        if is_right and scheme.lower() == "bearer":  # RFC 6750
            return None
        note(WRONG_TOKEN, HTTPStatus.UNAUTHORIZED, peer, path=path)
        if authorization:
            now = asyncio.get_running_loop().time()
            await self._throttle.delay(self._throttle.record_failure(peer, now))
        return PrerenderedResponse(401, "", b"", extra=b"\r\nWWW-Authenticate: Bearer")

    async def _health(self, request: web.Request) -> web.StreamResponse:
        """Answer with why the server is not ready, without errors and paths for a client that may
        not read ``/status``.
        """
        sources = self._app.telemetry.sources
        reasons = sources.not_ready_reasons()
        has_token = self._app.generation.policy.settings.admin_token is not None
        is_public = has_token and hdrs.AUTHORIZATION not in request.headers
        if reasons and (is_public or await self._refused(request)):
            reasons = sources.public_reasons()
        return health(request.rel_url.raw_path, reasons)

    async def _show_status(self, _: web.Request) -> web.StreamResponse:
        app = self._app
        app.telemetry.sample()
        return _json(await document(app.generation.policy, app.telemetry, self._reports))

    async def _show_fleet(self, _: web.Request) -> web.StreamResponse:
        """Answer with what was asked of the servers in the last seconds, once for all clients."""
        now = asyncio.get_running_loop().time()
        if self._fleet is None or now - self._fleet[0] > FLEET_KEPT_S:
            self._fleet = now, asyncio.create_task(ask_all(self._app.generation.policy.settings))
        return _json(document_of(await asyncio.shield(self._fleet[1])))

    async def _show_metrics(self, _: web.Request) -> web.StreamResponse:
        telemetry = self._app.telemetry
        telemetry.sample()
        merged = await telemetry.merged()
        text = await run_in_thread(lambda: expose(merged), "pexpolicy-metrics")
        return PrerenderedResponse(200, CONTENT_TYPE, text)

    async def _ask_plugin(self, request: web.Request) -> web.StreamResponse:
        """Answer with a plugin of the active generation, which stays open meanwhile."""
        generation = self._app.generation
        name = unquote(request.rel_url.raw_path.removeprefix(PREFIX).partition("/")[0])
        routes = generation.policy.routes.get(name)
        if routes is None:
            return PrerenderedResponse(404, TEXT, b"no active plugin of this name has routes\n")
        log, now = self._failure_log, asyncio.get_running_loop().time
        cast("PolicyProtocol", request.protocol).flush()
        work = _RouteCall(request, routes)
        generation.in_flight += 1
        try:
            in_time = await generation.policy.run(work, TIMEOUT_S)
        finally:
            generation.end_call()
        if work.response is not None:
            return work.response
        if request.writer.output_size > 0:
            # Half of its own response has been sent.
            cast("PolicyProtocol", request.protocol).connection.close()
        if not in_time:
            log.step(name, TIMED_OUT, f"no answer within {TIMEOUT_S:.3g} s", now())
            return _failure(504, f"{name} did not answer in time")
        if work.error is not None and request.transport is not None:
            log.failed("plugin failed", name, describe_error(work.error), now())
        return _failure(500, f"{name} failed: see the log")

    def close(self) -> None:
        """Release delayed replies, and log the failures that were left out."""
        self._throttle.cancel()
        self._reports.close()
        if self._fleet is not None:
            self._fleet[1].cancel()
        self._failure_log.close()


def _json(content: dict[str, Any]) -> PrerenderedResponse:
    text = orjson.dumps(readable(content), option=orjson.OPT_INDENT_2)
    return PrerenderedResponse(200, JSON, text)


def is_own_host(header: str | None, configured: str) -> bool:
    """Return whether a ``Host`` header excludes DNS rebinding.

    A page of another site can resolve its own name to this address, but the browser still sends
    that name. It cannot send an IP address, ``localhost`` or the configured name. Every browser
    sends the header.
    """
    found = _HOST.fullmatch(header or "localhost")
    name = (found[1] or found[2]).lower() if found is not None else ""
    with suppress(ValueError):
        return name in ("localhost", configured.lower()) or bool(ipaddress.ip_address(name))
    return False


class _RouteCall:
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


def _failure(status: int, text: str) -> PrerenderedResponse:
    """Return the response of a failed request; a late handler may still write, so it closes."""
    response = PrerenderedResponse(status, TEXT, f"{text}\n".encode())
    response.force_close()
    return response


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
    try:
        return listener.bind(admin.host, number)
    except OSError as error:
        problem = describe_network_error(error)
        text = f"admin listener: cannot listen on {admin.host}:{number}: {problem}"
        log.warning(text, consequence="no status and no metrics; calls are answered")
        return None


@asynccontextmanager
async def admin_listener(app: PolicyApp, bound: socket.socket | None) -> AsyncIterator[None]:
    """Sample the gauges, and answer operators on a socket if there is one."""
    with app.telemetry:
        if bound is None:
            yield
            return
        admin = AdminApp(app)
        # A request that an application of a plugin can route.
        loop = asyncio.get_running_loop()
        request = partial(web.Request, loop=loop, client_max_size=BODIES.size)
        settings = app.generation.policy.settings
        tls = settings.tls if settings.admin.tls else None
        if tls is not None:
            # Operators have a token, and no certificate of a node.
            tls = tls.model_copy(update={"client_ca": None, "client_crl": None})
        answering = listener.Listener(
            app,
            bound,
            server=web.Server(cast("Any", admin), request_factory=request),
            access=AccessControl(),
            limits=LIMITS,
            shared=True,
            settings=settings.model_copy(update={"tls": tls}),
            kind=_AdminProtocol,
        )
        async with answering.open(ADMIN_DRAIN_TIMEOUT_S):
            try:
                yield
            finally:
                admin.close()
