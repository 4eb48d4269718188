"""The listeners for operators and for other programs: the admin listener, and that of ``[api]``.

Both answer requests to routes of plugins, for clients with a token.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import msgspec
import orjson
from aiohttp import hdrs, web

from pexpolicy.access.access_control import AccessControl, connection_of
from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.access.credentials import LoginThrottle
from pexpolicy.access.refusals import FOREIGN_HOST, UNKNOWN_PATH, WRONG_METHOD, WRONG_TOKEN
from pexpolicy.config.schema.server import AccessTable, ApiTable, TlsTable
from pexpolicy.config.settings import Settings
from pexpolicy.endpoints.base import JSON
from pexpolicy.errors import Log, PluginFailureLog, describe_error, describe_network_error
from pexpolicy.fleet.members import ask_all, document_of
from pexpolicy.fleet.policy_hash import own_token
from pexpolicy.models.context import CHANGES, HOOK_CONTEXT, Changes
from pexpolicy.models.outcome import TIMED_OUT
from pexpolicy.observability.metrics import CONTENT_TYPE, expose
from pexpolicy.observability.status import PluginStatuses, document
from pexpolicy.plugins.binding import PREFIX, PluginRoutes
from pexpolicy.server.generations import GENERATION_DRAIN_TIMEOUT_S, Generation
from pexpolicy.server.http import listener
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.protocol import (
    READABLE,
    SERVER,
    TEXT,
    PolicyProtocol,
    PrerenderedResponse,
    health,
    last_reply,
    not_allowed,
)
from pexpolicy.server.reload_triggers import ask_for_reload
from pexpolicy.tasks import Failure, capture, run_in_thread, start_background
from pexpolicy.text import printable, readable

TIMEOUT_S = GENERATION_DRAIN_TIMEOUT_S - 1.0
"""For a request to a plugin, until its last byte is written: it ends before its generation is
closed.
"""
MAX_BODY = 1 << 16
DRAIN_TIMEOUT_S = 1.0
"""Seconds to answer the requests in flight on shutdown."""
PROBLEM = "application/problem+json"
MAX_FAILURES = 20
"""Wrong tokens of an address in ten minutes, after which it is asked to wait for ``RETRY_S``."""
RETRY_S = 60
ACTIVATE = "/activate/"
"""What the policy hash of a kept configuration follows."""
DISCONNECT = "/disconnect/"
"""What the id of a participant follows."""
ACTIONS = (ACTIVATE, DISCONNECT)
_HASH = re.compile("[0-9a-f]{16}")
_HOST = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::\d*)?")
FOREIGN_HOST_TEXT = (
    b"without a token use an IP address or localhost in the URL, and no page of a browser\n"
)


def bind(
    settings: Settings, log: Log, admin_port: int | None = None
) -> tuple[socket.socket | None, socket.socket | None]:
    """Return the sockets of the admin listener and of ``[api]``, where there is one.

    If a port is in use, the server logs a warning, and runs without. Workers share the sockets, so
    they are bound before they are forked. ``admin_port`` overrides the configured one.
    """

    def bound(name: str, host: str, port: int) -> socket.socket | None:
        try:
            return listener.bind(host, port)
        except OSError as error:
            text = f"{name}: cannot listen on {host}:{port}: {describe_network_error(error)}"
            log.warning(text, consequence="only calls are answered")
            return None

    admin, api = settings.admin, settings.api
    port = admin.port if admin_port is None else admin_port
    return (
        bound("admin listener", admin.host, port) if admin.enabled else None,
        bound("[api]", api.host, api.port) if api else None,
    )


class RoutesApp:
    """The request handler of a listener with routes of plugins, which ``hook`` gives.

    Plugins of the active generation answer, which stays open meanwhile.
    """

    hook: str
    limits: ConnectionLimits
    protocol: type[PolicyProtocol] = PolicyProtocol

    def __init__(self, app: PolicyApp) -> None:
        self._app = app
        self._throttle = LoginThrottle()
        self._failure_log = PluginFailureLog(app.log, self.hook)

    @asynccontextmanager
    async def serving(
        self,
        bound: socket.socket | None,
        tls: TlsTable | None,
        networks: Iterable[str] = (),
    ) -> AsyncIterator[None]:
        """Answer requests on a socket if there is one."""
        if bound is None:
            yield
            return
        # A request that an application of a plugin can route.
        loop = asyncio.get_running_loop()
        factory = partial(web.Request, loop=loop, client_max_size=MAX_BODY)
        # Clients have a token, and no certificate of a node.
        tls = tls and tls.model_copy(update={"client_ca": None, "client_crl": None})
        settings = self._app.generation.policy.settings
        answering = listener.Listener(
            self._app,
            bound,
            server=web.Server(cast("Any", self), request_factory=factory),
            access=AccessControl(AccessTable(networks=[*networks])),
            limits=self.limits,
            shared=True,
            settings=settings.model_copy(update={"tls": tls}),
            kind=self.protocol,
        )
        async with answering.open(DRAIN_TIMEOUT_S):
            try:
                yield
            finally:
                self.close()

    def close(self) -> None:
        """Release delayed replies."""
        self._throttle.cancel()

    async def _note_wrong_token(self, request: web.Request) -> int:
        """Delay the reply to a wrong token, each time longer; none is no guess.

        Return the number of wrong ones of the client.
        """
        peer = connection_of(request).peer
        self._app.refusals.note(WRONG_TOKEN, 401, peer, path=request.rel_url.raw_path)
        if request.headers.get(hdrs.AUTHORIZATION):
            await self._throttle.delay(self._throttle.record_failure(peer))
        return self._throttle.failures(peer)

    async def _ask(
        self, request: web.Request, generation: Generation, routes: PluginRoutes
    ) -> web.StreamResponse:
        """Return the response of a plugin, or the one instead. It was sent, except for a 401."""
        name, protocol = routes.plugin, cast("PolicyProtocol", request.protocol)
        protocol.flush()
        call = _RouteCall(request, routes.answer, generation, (name, self.hook))
        generation.in_flight += 1
        try:
            in_time = await generation.policy.run(call, TIMEOUT_S)
        finally:
            generation.end_call()
        if isinstance(call.result, web.StreamResponse):
            return call.result
        if request.writer.output_size > 0:
            # Half of its own response has been sent.
            protocol.connection.close()
        now, status, text = asyncio.get_running_loop().time(), 500, "failed: see the log"
        if not in_time:
            status, text = 504, "did not answer in time"
            self._failure_log.step(name, TIMED_OUT, f"no answer within {TIMEOUT_S:.3g} s", now)
        elif call.result is not None and request.transport is not None:
            self._failure_log.failed("plugin failed", name, describe_error(call.result.error), now)
        response = PrerenderedResponse(status, TEXT, f"{name} {text}\n".encode())
        response.force_close()  # a late handler may still write
        return response


@dataclass(eq=False)
class _RouteCall:
    """The work of one request: the handler of the plugin, and the writing of its response."""

    request: web.Request
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    generation: Generation
    names: tuple[str, str]
    result: web.StreamResponse | Failure | None = None

    async def run(self) -> None:
        HOOK_CONTEXT.set((self.names, None))
        self.result = await capture(self._respond)

    async def _respond(self) -> web.StreamResponse:
        request, generation, changes = self.request, self.generation, Changes()
        CHANGES.set(changes)
        try:
            response = await self.answer(request)
        except web.HTTPException as raised:
            response = raised
        if not isinstance(response, web.StreamResponse):
            raise TypeError(f"the handler returned {type(response).__name__}, not a response")
        audit, peer = generation.audit, connection_of(request).peer
        for facts in changes:
            # They were made, so nothing undoes them.
            recorded = audit.changed(self.names[0], peer, generation.policy.policy_hash, facts)
            if recorded is not None:
                await recorded
            audit.sink.flush()
        if not response.prepared:
            if request.writer.output_size > 0:
                raise TypeError("the handler returned another response than the one it has sent")
            response.headers.setdefault(hdrs.SERVER, SERVER)
            if response.status == HTTPStatus.UNAUTHORIZED:
                return response
        # Written here and not by aiohttp, where a failure would be one of the server.
        await response.prepare(request)
        await response.write_eof()
        return response


def _document(status: int, **detail: str) -> bytes:
    """Return a problem as in RFC 9457."""
    return orjson.dumps(
        {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, **detail}
    )


def _problem(status: int, extra: bytes = b"") -> PrerenderedResponse:
    return PrerenderedResponse(status, PROBLEM, _document(status), extra=extra)


class _ApiProtocol(PolicyProtocol):
    def content_of_refusal(self, status: int) -> tuple[str, bytes]:
        """Return a problem as in RFC 9457."""
        what = "a request is HTTP/1.1, its head and its body 64 KiB at most, and no body is chunked"
        return PROBLEM, _document(status, detail=what)

    def send_refusal(self, transport: asyncio.Transport, status: int) -> None:
        """Answer a request that is not read; what a client still sends is dropped meanwhile.

        It would not see the reply if the connection was closed before all is sent.
        """
        transport.write(last_reply(status, *self.content_of_refusal(status)))


class ApiApp(RoutesApp):
    """The request handler of ``[api]``."""

    hook = "api_routes"
    limits = ConnectionLimits(total=512, per_peer=128, body_bytes=MAX_BODY)
    protocol = _ApiProtocol

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a request by the first plugin that has a route for it."""
        generation, connection = self._app.generation, connection_of(request)
        allowed = set[str]()
        for routes in generation.policy.api_routes.values():
            error = (await routes.app.router.resolve(request)).http_exception
            if error is None:
                # Not evicted for others while it is answered.
                connection.hold()
                response = await self._ask(request, generation, routes)
                connection.wait()
                if response.status == HTTPStatus.UNAUTHORIZED and not response.prepared:
                    return await self._unauthorized(request)
                return response
            if isinstance(error, web.HTTPMethodNotAllowed):
                allowed |= error.allowed_methods
        reason, status, extra = UNKNOWN_PATH, 404, b""
        if allowed:
            reason, status = WRONG_METHOD, 405
            extra = f"\r\nAllow: {', '.join(sorted(allowed))}".encode()
        self._app.refusals.note(reason, status, connection.peer, path=request.rel_url.raw_path)
        return _problem(status, extra)

    async def _unauthorized(self, request: web.Request) -> PrerenderedResponse:
        if await self._note_wrong_token(request) > MAX_FAILURES:
            return _problem(429, b"\r\nRetry-After: %d" % RETRY_S)
        return _problem(401, b"\r\nWWW-Authenticate: Bearer")


def api_listener(
    app: PolicyApp, bound: socket.socket | None, settings: Settings
) -> AbstractAsyncContextManager[None]:
    """Answer other programs on a socket if there is one, with the certificate of ``settings``."""
    networks = (settings.api or ApiTable()).networks
    return ApiApp(app).serving(bound, settings.tls, networks)


class AdminApp(RoutesApp):
    """The request handler of the admin listener."""

    hook = "routes"
    limits = ConnectionLimits(
        total=64, per_peer=64, body_bytes=MAX_BODY, body_prefix=PREFIX.encode()
    )

    def __init__(self, app: PolicyApp) -> None:
        super().__init__(app)
        self._reports = PluginStatuses()
        self._pages = {
            "/livez": self._health,
            "/readyz": self._health,
            "/status": self._show_status,
            "/fleet": self._show_fleet,
            "/metrics": self._show_metrics,
        }
        self._below = {
            PREFIX: self._ask_plugin,
            ACTIVATE: self._activate,
            DISCONNECT: self._disconnect,
        }

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a request; the health checks need no token."""
        path = request.rel_url.raw_path
        answer = self._pages.get(path)
        for start, found in self._below.items():
            answer = found if path.startswith(start) else answer
        if answer is None:
            text = "\n".join(("the paths of this listener:", *self._pages, *self._below, ""))
            return PrerenderedResponse(404, TEXT, text.encode())
        if path in self._pages and request.method not in READABLE:
            return not_allowed()
        if path.startswith(ACTIONS) and request.method != hdrs.METH_POST:
            return not_allowed(hdrs.METH_POST)
        if answer != self._health and (refused := await self._refused(request)) is not None:
            return refused
        return await answer(request)

    async def _refused(self, request: web.Request) -> PrerenderedResponse | None:
        """Return the response to an unauthorized request; delay each wrong token longer."""
        settings = self._app.generation.policy.settings
        path = request.rel_url.raw_path
        token = None if settings.admin_token is None else settings.admin_token.get_secret_value()
        if token is None and path.startswith(ACTIONS):
            # Other users of this machine may not.
            token = await run_in_thread(lambda: own_token(settings), "pexpolicy-key")
        if token is None:
            host = request.headers.get(hdrs.HOST)
            # A page of another site could send a form to a plugin; browsers add Origin to that.
            if is_own_host(host, settings.admin.host) and hdrs.ORIGIN not in request.headers:
                return None
            status, peer = 421, connection_of(request).peer
            self._app.refusals.note(FOREIGN_HOST, status, peer, path=path)
            return PrerenderedResponse(status, TEXT, FOREIGN_HOST_TEXT)
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        scheme, _, sent = authorization.partition(" ")
        credentials = sent.strip().encode("utf-8", "surrogateescape")
        is_right = hmac.compare_digest(credentials, token.encode())
        if token and is_right and scheme.lower() == "bearer":  # RFC 6750
            return None
        await self._note_wrong_token(request)
        return PrerenderedResponse(401, extra=b"\r\nWWW-Authenticate: Bearer")

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
        return _json(await document(app.generation.policy, app.telemetry, self._reports))

    async def _show_fleet(self, _: web.Request) -> web.StreamResponse:
        """Ask all servers, and answer with what they say."""
        return _json(document_of(await ask_all(self._app.generation.policy.settings)))

    async def _activate(self, request: web.Request) -> web.StreamResponse:
        """Go back to a kept configuration, in all processes of this server."""
        kept = request.rel_url.raw_path.removeprefix(ACTIVATE)
        if not _HASH.fullmatch(kept):
            return PrerenderedResponse(404, TEXT, b"write the policy hash: 16 hexadecimal digits\n")
        author = printable(request.query.get("author", "")) or "admin listener"
        config = self._app.generation.policy.settings.path
        # Another process may be the one that reloads.
        results = await run_in_thread(
            lambda: ask_for_reload(config, author, kept), "pexpolicy-activate"
        )
        is_done = all(one is not None and one.done for one in results)
        found = {"results": msgspec.to_builtins(results)}
        return _json(found, (200 if is_done else 409) if results else 503)

    async def _disconnect(self, request: web.Request) -> web.StreamResponse:
        """End the call of a participant by a command of its platform."""
        participant = unquote(request.rel_url.raw_path.removeprefix(DISCONNECT))
        policy, author = self._app.generation.policy, printable(request.query.get("author", ""))
        source = request.query.get("source", "") or next(iter(policy.platforms), "")
        if (platform := policy.platforms.get(source)) is None:
            return _json({"result": "[infinity] source names no platform with commands"}, 409)
        result = await platform.command("participant/disconnect", participant_id=participant)
        self._app.log.warning("disconnected", participant=participant, author=author, result=result)
        return _json({"result": result}, {"done": 200, "gone": 404}.get(result, 502))

    async def _show_metrics(self, _: web.Request) -> web.StreamResponse:
        merged = await self._app.telemetry.merged()
        text = await run_in_thread(lambda: expose(merged), "pexpolicy-metrics")
        return PrerenderedResponse(200, CONTENT_TYPE, text)

    async def _ask_plugin(self, request: web.Request) -> web.StreamResponse:
        generation = self._app.generation
        name = unquote(request.rel_url.raw_path.removeprefix(PREFIX).partition("/")[0])
        routes = generation.policy.routes.get(name)
        if routes is None:
            return PrerenderedResponse(404, TEXT, b"no active plugin of this name has routes\n")
        return await self._ask(request, generation, routes)

    def close(self) -> None:
        """Stop asking plugins."""
        super().close()
        self._reports.close()


def _json(content: dict[str, Any], status: int = 200) -> PrerenderedResponse:
    text = orjson.dumps(readable(content), option=orjson.OPT_INDENT_2)
    return PrerenderedResponse(status, JSON, text)


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


@asynccontextmanager
async def admin_listener(app: PolicyApp, bound: socket.socket | None) -> AsyncIterator[None]:
    """Measure the lag of the event loop, and answer operators on a socket if there is one."""
    settings = app.generation.policy.settings
    tls = settings.tls if settings.admin.tls else None
    measuring = start_background(app.telemetry.measure_lag(), set())
    try:
        async with AdminApp(app).serving(bound, tls):
            yield
    finally:
        measuring.cancel()
