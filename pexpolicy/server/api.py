"""The listener of ``[api]``: requests of other programs, such as booking systems, to plugins."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import cast

import orjson
from aiohttp import hdrs, web

from pexpolicy.access.access_control import AccessControl
from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.access.credentials import LoginThrottle
from pexpolicy.access.refusals import UNKNOWN_PATH, WRONG_METHOD, WRONG_TOKEN
from pexpolicy.config.schema.server import AccessTable, ApiTable
from pexpolicy.config.settings import Settings
from pexpolicy.errors import Log
from pexpolicy.plugins.binding import API_PREFIX, PluginRoutes
from pexpolicy.server import other_listeners
from pexpolicy.server.generations import Generation
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.bounded_handler import BodyLimit
from pexpolicy.server.http.protocol import PolicyProtocol, PrerenderedResponse, last_reply
from pexpolicy.server.other_listeners import MAX_BODY, PluginCaller

PROBLEM = "application/problem+json"
MAX_FAILURES = 20
"""Wrong tokens of an address in ten minutes, after which it is asked to wait for ``RETRY_S``."""
RETRY_S = 60
LIMITS = ConnectionLimits(total=512, per_peer=128)
"""Limits of this listener, which nodes never call."""


class ApiApp:
    """The aiohttp request handler of the listener."""

    def __init__(self, app: PolicyApp) -> None:
        self._app = app
        self._throttle = LoginThrottle()
        self._plugins = PluginCaller(app, "api_routes")

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer a request by the first plugin that has a route for it."""
        generation = self._app.generation
        connection = cast("PolicyProtocol", request.protocol).connection
        found = await _found(request, generation)
        if not isinstance(found, PluginRoutes):
            path, is_known = request.rel_url.raw_path, bool(found)
            reason = WRONG_METHOD if is_known else UNKNOWN_PATH
            status = HTTPStatus.METHOD_NOT_ALLOWED if is_known else HTTPStatus.NOT_FOUND
            self._app.refusals.note(reason, status, connection.peer, path=path)
            allowed = f"\r\nAllow: {', '.join(sorted(found))}".encode() if is_known else b""
            return _problem(status, allowed)
        # Not evicted for others while it is answered.
        connection.hold()
        response = await self._plugins.ask(
            request, generation, found, withheld=HTTPStatus.UNAUTHORIZED
        )
        connection.wait()
        if response.status == HTTPStatus.UNAUTHORIZED and not response.prepared:
            return await self._unauthorized(request, connection.peer)
        return response

    async def _unauthorized(self, request: web.Request, peer: str) -> PrerenderedResponse:
        """Return the response to a wrong token, each time later; none is no guess."""
        path = request.rel_url.raw_path
        self._app.refusals.note(WRONG_TOKEN, HTTPStatus.UNAUTHORIZED, peer, path=path)
        now = asyncio.get_running_loop().time()
        if hdrs.AUTHORIZATION in request.headers:
            await self._throttle.delay(self._throttle.record_failure(peer, now))
        if self._throttle.failures(peer, now) > MAX_FAILURES:
            return _problem(HTTPStatus.TOO_MANY_REQUESTS, b"\r\nRetry-After: %d" % RETRY_S)
        return _problem(HTTPStatus.UNAUTHORIZED, b"\r\nWWW-Authenticate: Bearer")

    def close(self) -> None:
        """Release delayed replies, and log the failures that were left out."""
        self._throttle.cancel()
        self._plugins.close()


async def _found(request: web.Request, generation: Generation) -> PluginRoutes | set[str]:
    """Return the routes of the plugin that answers, or the methods that others allow."""
    allowed: set[str] = set()
    for routes in generation.policy.api_routes.values():
        error = (await routes.app.router.resolve(request)).http_exception
        if error is None:
            return routes
        if isinstance(error, web.HTTPMethodNotAllowed):
            allowed |= error.allowed_methods
    return allowed


def _document(status: HTTPStatus) -> bytes:
    """Return a problem as in RFC 9457."""
    return orjson.dumps({"type": "about:blank", "title": status.phrase, "status": status.value})


def _problem(status: HTTPStatus, extra: bytes = b"") -> PrerenderedResponse:
    return PrerenderedResponse(status, PROBLEM, _document(status), extra=extra)


class _ApiProtocol(PolicyProtocol):
    __slots__ = ()

    bodies = BodyLimit(API_PREFIX, MAX_BODY)

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


def bind(settings: Settings, log: Log) -> socket.socket | None:
    """Return the socket of ``[api]``; ``None`` if there is none, or it cannot be bound."""
    api = settings.api
    if api is None:
        return None
    return other_listeners.bind("[api]", api.host, api.port, log, "other programs get no answer")


def api_listener(
    app: PolicyApp, bound: socket.socket | None, settings: Settings
) -> AbstractAsyncContextManager[None]:
    """Answer other programs on a socket if there is one, with the certificate of ``settings``."""
    access = AccessTable(networks=(settings.api or ApiTable()).networks)
    own = {"access": access, "credentials": (), "event_credentials": {}}
    known = AccessControl().for_settings(settings.model_copy(update=own))
    return other_listeners.opened(
        app, bound, ApiApp(app), settings, access=known, limits=LIMITS, kind=_ApiProtocol
    )
