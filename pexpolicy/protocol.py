"""The HTTP protocol at its edge: what cannot even be parsed gets a short answer and an audit
line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web

from pexpolicy.hidden import hide
from pexpolicy.response import WholeResponse

MAX_REQUEST_LINE = 32 * 1024
"""Bytes of a request target: many identity provider attributes fit in."""
MAX_HEADER = 8 * 1024
KEEP_ALIVE = 3600.0
"""Seconds; a new connection costs as much as a call, so nodes keep theirs."""

Malformed = Callable[[int, str | None], None]


class PolicyProtocol(web.RequestHandler):
    """aiohttp's protocol, less everything that repeats what a client sent: replies and log
    lines.
    """

    __slots__ = ("_malformed",)

    def __init__(
        self, server: web.Server, *, loop: asyncio.AbstractEventLoop, malformed: Malformed
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=_silent(),
            keepalive_timeout=KEEP_ALIVE,
            max_line_size=MAX_REQUEST_LINE,
            max_field_size=MAX_HEADER,
            logger=_silent(),
        )
        self._malformed = malformed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read requests, in a task that no plugin finds."""
        super().connection_made(transport)
        hide(self._task_handler)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and note it; the default would repeat the offending line."""
        if request.writer.output_size > 0:
            msg = "a part of the reply has left already"
            raise ConnectionError(msg)
        self._malformed(status, request.remote)
        response = WholeResponse(status, "", b"")
        response.force_close()
        return response


def _silent() -> logging.Logger:
    """A logger for aiohttp's own messages, which hold what clients sent: nobody reads it."""
    logger = logging.getLogger("pexpolicy.http")
    logger.disabled = True
    return logger
