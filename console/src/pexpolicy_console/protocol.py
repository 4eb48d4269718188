"""The HTTP protocol of one connection to the console: limits of time, size and number."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from pexpolicy.access.connections import (
    AuthenticatedRequest,
    Connection,
    ConnectionLimitError,
    Connections,
)
from pexpolicy.errors import describe_error
from pexpolicy.server.http.aiohttp_internals import BoundedHandler
from pexpolicy.server.http.body_parser import BodyLimit, BodyTooLargeError
from pexpolicy.server.http.request_parser import HeadTooLargeError
from pexpolicy_console.forms import MAX_BODY

MAX_HEAD = 1 << 15
"""Bytes of a request line and its headers."""
REQUEST_S = 10.0
"""Time for a request to arrive, and for a new connection to send one."""
WRITE_S = 30.0
"""Time in which a client reads what waits for it."""
IDLE_S = 75.0
MAX_CONNECTIONS = 512
MAX_CONNECTIONS_OF_PEER = 64
"""Connections of one address that is not a trusted proxy. Those without a session make room."""
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
    """aiohttp's protocol with limits, whose replies to malformed requests repeat none of them.

    A request reaches its handler after its body has arrived.
    """

    __slots__ = ("_connections", "_is_shared", "_request_timer", "_write_timer", "connection")

    bodies = BodyLimit("/", MAX_BODY)

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        connections: Connections,
        is_shared: Callable[[str], bool],
    ) -> None:
        super().__init__(server, loop=loop, header_bytes=MAX_HEAD, idle_seconds=IDLE_S)
        self.connection: Connection | None = None
        self._connections = connections
        self._is_shared = is_shared
        self._request_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; close it if there are too many."""
        super().connection_made(transport)
        writable = cast("asyncio.Transport", transport)
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        self.connection = Connection(peer, self.event_loop.time(), writable.abort)
        try:
            self._connections.add(self.connection, shared=self._is_shared(peer))
        except ConnectionLimitError:
            writable.abort()
            return
        self._expect_request()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop counting the connection."""
        if self.connection is not None:
            self.connection.ended()
        for timer in (self._request_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data, and set the deadline of an incomplete request."""
        parsed = self.requests.parsed
        super().data_received(data)
        if self.requests.parsed != parsed and self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None
        if self.requests.is_incomplete and self._request_timer is None:
            self._expect_request()

    def _expect_request(self) -> None:
        assert self.connection is not None
        self._request_timer = self.event_loop.call_later(REQUEST_S, self.connection.close)

    def pause_writing(self) -> None:
        """Start the time limit of a client that does not read."""
        super().pause_writing()
        assert self.connection is not None
        self._write_timer = self.event_loop.call_later(WRITE_S, self.connection.close)

    def resume_writing(self) -> None:
        """Cancel the time limit."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the reply to a malformed request, or to one whose handler failed."""
        if request.writer.output_size > 0:
            msg = "part of the reply has been sent already"
            raise ConnectionError(msg)
        if isinstance(exc, BodyTooLargeError):
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        elif isinstance(exc, (HeadTooLargeError, LineTooLong)):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR and exc is not None:
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
    if isinstance(protocol, ConsoleProtocol) and protocol.connection is not None:
        connection = protocol.connection
        if connection.admission is None:
            connection.admit(AuthenticatedRequest(None, b"", None, connection.peer))
