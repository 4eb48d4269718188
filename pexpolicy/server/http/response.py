"""A response that is known whole when it is made, and leaves in one piece."""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from aiohttp import HttpVersion11, hdrs, web
from multidict import CIMultiDict

from pexpolicy.endpoints.base import JPEG, JSON

SERVER = "pexpolicy"
TEXT = "text/plain; charset=utf-8"


def _head(status: int, content_type: str) -> bytes:
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    phrase = HTTPStatus(status).phrase
    return f"HTTP/1.1 {status} {phrase}\r\nServer: {SERVER}\r\n{kind}Content-Length: ".encode()


_HEADS = {(status, kind): _head(status, kind) for status in (200, 404) for kind in (JSON, JPEG)}


class PrerenderedResponse(web.StreamResponse):
    """Status, content type and body; what HTTP wants besides is rendered here.

    A ``PolicyProtocol`` sends it with those of other connections; any other one sends it at once.

    aiohttp's own ``Response`` keeps a dictionary of headers that a program may still change, and
    renders it for each reply: a tenth of what a call costs. A reply to a node has no such header.
    """

    def __init__(self, status: int, content_type: str, body: bytes, *, extra: bytes = b"") -> None:
        # What the constructor of the base class sets up, this one never uses.
        self._code = status
        self._keeps: bool | None = None
        self._parts = (_HEADS.get((status, content_type)) or _head(status, content_type), extra)
        self._whole = body

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {self.reason}, {len(self._whole)} bytes>"

    @property
    def status(self) -> int:
        """The status code."""
        return self._code

    @property
    def reason(self) -> str:
        """The words that belong to the status code."""
        return HTTPStatus(self._code).phrase

    @property
    def headers(self) -> CIMultiDict[str]:
        """A copy of the headers, without those that say when and over which connection."""
        head, extra = self._parts
        lines = b"".join((head, b"%d" % len(self._whole), extra)).decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines[1:])
        return CIMultiDict((name, value) for name, _, value in pairs)

    @property
    def keep_alive(self) -> bool | None:
        """True where the connection stays open; ``None`` where the request decides."""
        return self._keeps

    def force_close(self) -> None:
        """End the connection with this response."""
        self._keeps = False

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write the response; raises ``ConnectionResetError`` where nobody is there to read it."""
        protocol: Any = request.protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            msg = "the connection was closed"
            raise ConnectionResetError(msg)
        keep = self._keeps
        if keep is None:
            keep = self._keeps = request.keep_alive
        if not keep:
            connection = b"\r\nConnection: close\r\nDate: "
        elif request.version is HttpVersion11:
            connection = b"\r\nDate: "
        else:
            connection = b"\r\nConnection: keep-alive\r\nDate: "
        head, extra = self._parts
        body = self._whole
        length = b"%d" % len(body)
        if request.method == hdrs.METH_HEAD:
            body = b""
        date = _clock.date()
        content = b"".join((head, length, connection, date, extra, b"\r\n\r\n", body))
        send = getattr(protocol, "send", None)
        if send is None:
            transport.write(content)
        else:
            send(transport, content, last=not keep)
        if protocol.writing_paused:
            await request.writer.drain()

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing: the response has left already."""


class _DateHeader:
    """The Date header, rendered once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._date = b""

    def date(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._date = formatdate(now, usegmt=True).encode()
        return self._date


_clock = _DateHeader()


READABLE = (hdrs.METH_GET, hdrs.METH_HEAD)


def not_allowed() -> PrerenderedResponse:
    """Return the response to a method that is not in ``READABLE``."""
    return PrerenderedResponse(405, "", b"", extra=b"\r\nAllow: GET, HEAD")


def health(path: str, unready: Sequence[str]) -> PrerenderedResponse:
    """Return the response of ``/livez`` or ``/readyz``; ``unready`` are reasons not to be ready."""
    if path == "/readyz" and unready:
        return PrerenderedResponse(503, TEXT, ("\n".join(unready) + "\n").encode())
    return PrerenderedResponse(200, TEXT, b"ok\n")
