"""The listener of ``[api]``: requests of other programs, such as booking systems, to plugins."""

from __future__ import annotations

import socket
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus

import orjson
from aiohttp import web

from pexpolicy.access.access_control import connection_of
from pexpolicy.access.connections import ConnectionLimits
from pexpolicy.access.refusals import UNKNOWN_PATH, WRONG_METHOD
from pexpolicy.config.schema.server import ApiTable
from pexpolicy.config.settings import Settings
from pexpolicy.plugins.binding import API_PREFIX
from pexpolicy.server.http.app import PolicyApp
from pexpolicy.server.http.protocol import PolicyProtocol, PrerenderedResponse, last_reply
from pexpolicy.server.other_listeners import MAX_BODY, RoutesApp

PROBLEM = "application/problem+json"
MAX_FAILURES = 20
"""Wrong tokens of an address in ten minutes, after which it is asked to wait for ``RETRY_S``."""
RETRY_S = 60
LIMITS = ConnectionLimits(
    total=512, per_peer=128, body_bytes=MAX_BODY, body_prefix=API_PREFIX.encode()
)
"""Limits of this listener, which nodes never call."""


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
