"""The listener of ``[api]``, for programs such as booking systems, and what it shares with the
admin listener: sockets, tokens, and requests to routes of plugins.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import orjson
from aiohttp import hdrs, web

from pexpolicy.access.access_control import AccessControl, connection_of
from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.access.credentials import LoginThrottle
from pexpolicy.access.refusals import UNKNOWN_PATH, WRONG_METHOD, WRONG_TOKEN
from pexpolicy.chain.failure_log import PluginFailureLog
from pexpolicy.config.schema.server import ApiTable, TlsTable
from pexpolicy.config.settings import Settings
from pexpolicy.errors import Log, describe_error, describe_network_error
from pexpolicy.models.context import CHANGES, HOOK_CONTEXT, Changes
from pexpolicy.models.outcome import TIMED_OUT
from pexpolicy.plugins.binding import API_PREFIX, PluginRoutes
from pexpolicy.server.generations import GENERATION_DRAIN_TIMEOUT_S, Generation
from pexpolicy.server.http import listener
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.protocol import (
    SERVER,
    TEXT,
    PolicyProtocol,
    PrerenderedResponse,
    last_reply,
)

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
LIMITS = ConnectionLimits(
    total=512, per_peer=128, body_bytes=MAX_BODY, body_prefix=API_PREFIX.encode()
)
"""Limits of this listener, which nodes never call."""


def bind(
    settings: Settings, log: Log, admin_port: int | None = None
) -> tuple[socket.socket | None, socket.socket | None]:
    """Return the sockets of the admin listener and of ``[api]``, where there is one.

    If a port is in use, the server logs a warning with what is lost, and runs without. Workers
    share the sockets, so they are bound before they are forked. ``admin_port`` overrides the
    configured one.
    """

    def bound(name: str, host: str, port: int, lost: str) -> socket.socket | None:
        try:
            return listener.bind(host, port)
        except OSError as error:
            text = f"{name}: cannot listen on {host}:{port}: {describe_network_error(error)}"
            log.warning(text, consequence=f"{lost}; calls are answered")
            return None

    admin, api = settings.admin, settings.api
    port = admin.port if admin_port is None else admin_port
    lost = "no status and no metrics"
    return (
        bound("admin listener", admin.host, port, lost) if admin.enabled else None,
        bound("[api]", api.host, api.port, "other programs get no answer") if api else None,
    )


class RoutesApp:
    """The request handler of a listener with routes of plugins, which ``hook`` gives.

    Plugins of the active generation answer, which stays open meanwhile.
    """

    def __init__(self, app: PolicyApp, hook: str) -> None:
        self._app = app
        self._hook = hook
        self._throttle = LoginThrottle()
        self._failure_log = PluginFailureLog(app.log, hook)

    @asynccontextmanager
    async def serving(
        self,
        bound: socket.socket | None,
        tls: TlsTable | None,
        limits: ConnectionLimits,
        networks: Iterable[str] = (),
        kind: type[PolicyProtocol] = PolicyProtocol,
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
            access=AccessControl(networks),
            limits=limits,
            shared=True,
            settings=settings.model_copy(update={"tls": tls}),
            kind=kind,
        )
        async with answering.open(DRAIN_TIMEOUT_S):
            try:
                yield
            finally:
                self.close()

    def close(self) -> None:
        """Release delayed replies, and log the failures that were left out."""
        self._throttle.cancel()
        self._failure_log.close()

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
        call = _RouteCall(request, routes.answer, generation, (name, self._hook))
        generation.in_flight += 1
        try:
            in_time = await generation.policy.run(call, TIMEOUT_S)
        finally:
            generation.end_call()
        if call.response is not None:
            return call.response
        if request.writer.output_size > 0:
            # Half of its own response has been sent.
            protocol.connection.close()
        now, status, text = asyncio.get_running_loop().time(), 500, "failed: see the log"
        if not in_time:
            status, text = 504, "did not answer in time"
            self._failure_log.step(name, TIMED_OUT, f"no answer within {TIMEOUT_S:.3g} s", now)
        elif call.error is not None and request.transport is not None:
            self._failure_log.failed("plugin failed", name, describe_error(call.error), now)
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
    response: web.StreamResponse | None = None
    error: BaseException | None = None

    async def run(self) -> None:
        HOOK_CONTEXT.set((self.names, None))
        try:
            self.response = await self._respond()
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self.error = error

    async def _respond(self) -> web.StreamResponse:
        request, changes = self.request, Changes()
        CHANGES.set(changes)
        try:
            response = await self.answer(request)
        except web.HTTPException as raised:
            response = raised
        if not isinstance(response, web.StreamResponse):
            raise TypeError(f"the handler returned {type(response).__name__}, not a response")
        await self._record(changes)
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

    async def _record(self, changes: Changes) -> None:
        """Write the lines of changes before the reply; they were made, so nothing undoes them."""
        peer = connection_of(self.request).peer
        audit, policy_hash = self.generation.audit, self.generation.policy.policy_hash
        for facts in changes:
            recorded = audit.changed(self.names[0], peer, policy_hash, facts)
            if recorded is not None:
                await recorded
            audit.sink.flush()


class ApiApp(RoutesApp):
    """The aiohttp request handler of the listener."""

    def __init__(self, app: PolicyApp) -> None:
        super().__init__(app, "api_routes")

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a request by the first plugin that has a route for it."""
        generation, connection = self._app.generation, connection_of(request)
        allowed: set[str] = set()
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
        reason, status, extra = UNKNOWN_PATH, HTTPStatus.NOT_FOUND, b""
        if allowed:
            reason, status = WRONG_METHOD, HTTPStatus.METHOD_NOT_ALLOWED
            extra = f"\r\nAllow: {', '.join(sorted(allowed))}".encode()
        self._app.refusals.note(reason, status, connection.peer, path=request.rel_url.raw_path)
        return _problem(status, extra)

    async def _unauthorized(self, request: web.Request) -> PrerenderedResponse:
        if await self._note_wrong_token(request) > MAX_FAILURES:
            return _problem(HTTPStatus.TOO_MANY_REQUESTS, b"\r\nRetry-After: %d" % RETRY_S)
        return _problem(HTTPStatus.UNAUTHORIZED, b"\r\nWWW-Authenticate: Bearer")


def _document(status: HTTPStatus) -> bytes:
    """Return a problem as in RFC 9457."""
    return orjson.dumps({"type": "about:blank", "title": status.phrase, "status": status.value})


def _problem(status: HTTPStatus, extra: bytes = b"") -> PrerenderedResponse:
    return PrerenderedResponse(status, PROBLEM, _document(status), extra=extra)


class _ApiProtocol(PolicyProtocol):
    __slots__ = ()

    def refuse(self, reason: str, status: int) -> None:
        """Answer a request that is not read; what a client still sends is dropped meanwhile.

        It would not see the reply if the connection was closed before all is sent.
        """
        if self.transport is None or not self.is_all_answered:
            super().refuse(reason, status)
            return
        self.flush()
        self.note_refusal(reason, status)
        self.transport.write(last_reply(status, PROBLEM, _document(HTTPStatus(status))))


def api_listener(
    app: PolicyApp, bound: socket.socket | None, settings: Settings
) -> AbstractAsyncContextManager[None]:
    """Answer other programs on a socket if there is one, with the certificate of ``settings``."""
    networks = (settings.api or ApiTable()).networks
    return ApiApp(app).serving(bound, settings.tls, LIMITS, networks, _ApiProtocol)
