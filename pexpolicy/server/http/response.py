"""Prerendered HTTP responses, which are sent in one piece."""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from aiohttp import HttpVersion11, hdrs, web

from pexpolicy.endpoints.base import JPEG, JSON
from pexpolicy.errors import Log, describe_error

SERVER = "pexpolicy"
TEXT = "text/plain; charset=utf-8"
SHORT_REPLY = 8192
"""Size in bytes up to which the kernel accepts a reply that is sent alone."""


def _head(status: int, content_type: str) -> bytes:
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    phrase = HTTPStatus(status).phrase
    return f"HTTP/1.1 {status} {phrase}\r\nServer: {SERVER}\r\n{kind}Content-Length: ".encode()


_HEADS = {(status, kind): _head(status, kind) for status in (200, 404) for kind in (JSON, JPEG)}


class PrerenderedResponse(web.StreamResponse):
    """A response made of status, content type and body.

    The protocol of its connection queues it for the next batch.

    aiohttp's own ``Response`` renders a mutable dictionary of headers for each reply, which is 10 %
    of the cost of a call. Replies to nodes have no variable headers but the date.
    """

    def __init__(self, status: int, content_type: str, body: bytes, *, extra: bytes = b"") -> None:
        # The attributes that the base class sets in its constructor are not used here.
        self._code = status
        self._keeps_alive: bool | None = None
        self._parts = (_HEADS.get((status, content_type)) or _head(status, content_type), extra)
        self._content = body

    @property
    def status(self) -> int:
        """The status code."""
        return self._code

    @property
    def keep_alive(self) -> bool | None:
        """True to keep the connection open, false to close it; ``None``: the request decides."""
        return self._keeps_alive

    def force_close(self) -> None:
        """Close the connection after this response."""
        self._keeps_alive = False

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send the response; raise ``ConnectionResetError`` if the connection is closed."""
        protocol: Any = request.protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            msg = "the connection was closed"
            raise ConnectionResetError(msg)
        keep = self._keeps_alive
        if keep is None:
            keep = self._keeps_alive = request.keep_alive
        if not keep:
            connection = b"\r\nConnection: close\r\nDate: "
        elif request.version is HttpVersion11:
            connection = b"\r\nDate: "
        else:
            connection = b"\r\nConnection: keep-alive\r\nDate: "
        head, extra = self._parts
        body = self._content
        length = b"%d" % len(body)
        if request.method == hdrs.METH_HEAD:
            body = b""
        date = _date_of(int(time.time()))
        content = b"".join((head, length, connection, date, extra, b"\r\n\r\n", body))
        is_short = len(content) <= SHORT_REPLY
        protocol.send(transport, content, closes=not keep and is_short)
        if not (keep or is_short):
            # aiohttp closes the transport next, after the client has read most of the reply.
            protocol.flush()
        if protocol.writing_paused:
            await request.writer.drain()

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: ``prepare`` has sent the whole response."""


def empty_reply(status: int) -> bytes:
    """Return a whole response without a body, after which the connection is closed."""
    parts = (b"0\r\nConnection: close\r\nDate: ", _date_of(int(time.time())), b"\r\n\r\n")
    return b"".join((_head(status, ""), *parts))


@lru_cache(maxsize=1)
def _date_of(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


READABLE = (hdrs.METH_GET, hdrs.METH_HEAD)


def not_allowed() -> PrerenderedResponse:
    """Return the response to a request whose method is not in ``READABLE``."""
    return PrerenderedResponse(405, "", b"", extra=b"\r\nAllow: GET, HEAD")


def health(path: str, not_ready_reasons: Sequence[str]) -> PrerenderedResponse:
    """Return the response of ``/livez`` or ``/readyz``."""
    if path == "/readyz" and not_ready_reasons:
        return PrerenderedResponse(503, TEXT, ("\n".join(not_ready_reasons) + "\n").encode())
    return PrerenderedResponse(200, TEXT, b"ok\n")


def log_fault(log: Log, event: str, error: BaseException, **facts: object) -> None:
    """Log an error of the server itself."""
    report = describe_error(error)
    log.warning(event, error=report.summary, traceback=report.traceback, **facts)
