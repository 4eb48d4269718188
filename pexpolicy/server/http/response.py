"""Prerendered HTTP responses, which are sent in one piece."""

from __future__ import annotations

import time
from abc import abstractmethod
from asyncio import Transport
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from aiohttp import HttpVersion11, hdrs, web
from multidict import CIMultiDict

from pexpolicy.endpoints.base import JPEG, JSON

SERVER = "pexpolicy"
TEXT = "text/plain; charset=utf-8"
SHORT_REPLY = 8192
"""Size in bytes up to which the kernel accepts a reply that is sent alone."""


def _head(status: int, content_type: str) -> bytes:
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    phrase = HTTPStatus(status).phrase
    return f"HTTP/1.1 {status} {phrase}\r\nServer: {SERVER}\r\n{kind}Content-Length: ".encode()


_HEADS = {(status, kind): _head(status, kind) for status in (200, 404) for kind in (JSON, JPEG)}


class BatchingTransport:
    """An HTTP protocol that sends the replies of several connections together."""

    __slots__ = ()

    @abstractmethod
    def send(self, transport: Transport, content: bytes, *, closes: bool = False) -> None:
        """Queue a reply, which ``closes`` the connection if it is the last one."""

    @abstractmethod
    def flush(self) -> None:
        """Send the queued replies now."""


class PrerenderedResponse(web.StreamResponse):
    """A response made of status, content type and body.

    A ``BatchingTransport`` queues it for its next batch; any other protocol sends it at once.

    aiohttp's own ``Response`` renders a mutable dictionary of headers for each reply, which is 10 %
    of the cost of a call. Replies to nodes have no variable headers but the date.
    """

    def __init__(self, status: int, content_type: str, body: bytes, *, extra: bytes = b"") -> None:
        # The attributes that the base class sets in its constructor are not used here.
        self._code = status
        self._keeps_alive: bool | None = None
        self._parts = (_HEADS.get((status, content_type)) or _head(status, content_type), extra)
        self._content = body

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {self.reason}, {len(self._content)} bytes>"

    @property
    def status(self) -> int:
        """The status code."""
        return self._code

    @property
    def reason(self) -> str:
        """The reason phrase of the status code."""
        return HTTPStatus(self._code).phrase

    @property
    def headers(self) -> CIMultiDict[str]:
        """A copy of the headers, without ``Date`` and ``Connection``."""
        head, extra = self._parts
        lines = b"".join((head, b"%d" % len(self._content), extra)).decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines[1:])
        return CIMultiDict((name, value) for name, _, value in pairs)

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
        date = _date_header.value()
        content = b"".join((head, length, connection, date, extra, b"\r\n\r\n", body))
        if isinstance(protocol, BatchingTransport):
            is_short = len(content) <= SHORT_REPLY
            protocol.send(transport, content, closes=not keep and is_short)
            if not (keep or is_short):
                # aiohttp closes the transport next, after the client has read most of the reply.
                protocol.flush()
        else:
            transport.write(content)
        if protocol.writing_paused:
            await request.writer.drain()

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: ``prepare`` has sent the whole response."""


def empty_reply(status: int) -> bytes:
    """Return a whole response without a body, after which the connection is closed."""
    parts = (b"0\r\nConnection: close\r\nDate: ", _date_header.value(), b"\r\n\r\n")
    return b"".join((_head(status, ""), *parts))


class _DateHeader:
    """The value of the ``Date`` header, rendered once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._date = b""

    def value(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._date = formatdate(now, usegmt=True).encode()
        return self._date


_date_header = _DateHeader()
READABLE = (hdrs.METH_GET, hdrs.METH_HEAD)


def not_allowed() -> PrerenderedResponse:
    """Return the response to a request whose method is not in ``READABLE``."""
    return PrerenderedResponse(405, "", b"", extra=b"\r\nAllow: GET, HEAD")


def health(path: str, not_ready_reasons: Sequence[str]) -> PrerenderedResponse:
    """Return the response of ``/livez`` or ``/readyz``."""
    if path == "/readyz" and not_ready_reasons:
        return PrerenderedResponse(503, TEXT, ("\n".join(not_ready_reasons) + "\n").encode())
    return PrerenderedResponse(200, TEXT, b"ok\n")
