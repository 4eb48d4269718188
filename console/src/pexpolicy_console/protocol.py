"""The HTTP protocol of one connection to the console: limits of time, size and number."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from aiohttp import web

from pexpolicy.access.connections import (
    AuthenticatedRequest,
    Connection,
    ConnectionLimitError,
    ConnectionLimits,
    Connections,
)
from pexpolicy.errors import describe_error
from pexpolicy.server.http.bounded_handler import BoundedHandler

MAX_BODY = 1 << 20
LIMITS = ConnectionLimits(
    total=512,
    waiting=512,
    per_peer=64,
    header_bytes=1 << 15,
    body_bytes=MAX_BODY,
    request_seconds=10.0,
    idle_seconds=75,
)
"""Limits of the console; connections without a session make room for others."""
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Server": "pexpolicy",
}
"""Headers of each reply, also of those to what is no request."""
_log = logging.getLogger(__name__)


class ConsoleProtocol(BoundedHandler):
    """aiohttp's protocol with limits, whose replies to malformed requests repeat none of them."""

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        connections: Connections,
        is_shared: Callable[[str], bool],
    ) -> None:
        super().__init__(server, loop, LIMITS, Connection())
        self._connections = connections
        self._is_shared = is_shared

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; close it if there are too many."""
        super().connection_made(transport)
        abort = cast("asyncio.Transport", transport).abort
        connection = self.connection
        connection.peer = str((transport.get_extra_info("peername") or ("",))[0])
        connection.close = abort
        try:
            self._connections.add(connection, shared=self._is_shared(connection.peer))
        except ConnectionLimitError:
            abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the reply to a malformed request, or to one whose handler failed."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of the reply has been sent already")
        _, status = self.refusal(exc, status)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and exc is not None:
            report = describe_error(exc)
            _log.error("internal fault: %s\n%s", report.summary, report.traceback)
        text = f"{status} {HTTPStatus(status).phrase}\n"
        response = web.Response(status=status, text=text, headers=SECURITY_HEADERS)
        response.headers["Cache-Control"] = "no-store"
        response.force_close()
        return response


def mark_authenticated(request: web.BaseRequest) -> None:
    """Keep the connection of a request with a session when others make room."""
    protocol = request.protocol
    if isinstance(protocol, ConsoleProtocol):
        connection = protocol.connection
        if connection.admission is None:
            connection.admit(AuthenticatedRequest(None, b"", None, connection.peer))
