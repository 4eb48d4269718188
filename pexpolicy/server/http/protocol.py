"""The HTTP protocol of one connection: prerendered and batched replies, and refusals.

Replies that are made in one turn of the event loop are sent at the beginning of the next turn.
Sending in a row keeps the network code of the kernel in the processor caches, and wakes up a client
on the same machine once instead of for each reply. Under load this saves 25 % of the processor time
of a call. In a long turn replies are sent before its end.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cache, lru_cache, partial
from http import HTTPStatus
from time import monotonic, time
from typing import Any, cast

from aiohttp import HttpVersion11, hdrs, web

from pexpolicy.access.connections import Connection, ConnectionLimits
from pexpolicy.access.refusals import CLOSED, FAULT, TIMED_OUT, WRITE_TIMEOUT, RefusalLog
from pexpolicy.errors import Log, describe_error
from pexpolicy.server.http.bounded_handler import UNKNOWN, BoundedHandler

SERVER = "pexpolicy"
TEXT = "text/plain; charset=utf-8"
SHORT_REPLY = 8192
"""Size in bytes up to which the kernel accepts a reply that is sent alone."""


@cache
def _head(status: int, content_type: str) -> bytes:
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    phrase = HTTPStatus(status).phrase
    return f"HTTP/1.1 {status} {phrase}\r\nServer: {SERVER}\r\n{kind}Content-Length: ".encode()


class PrerenderedResponse(web.StreamResponse):
    """A response made of status, content type and body.

    The protocol of its connection queues it for the next batch.

    aiohttp's own ``Response`` renders a mutable dictionary of headers for each reply, which is 10 %
    of the cost of a call. Replies to nodes have no variable headers but the date.
    """

    def __init__(
        self, status: int, content_type: str = "", body: bytes = b"", *, extra: bytes = b""
    ) -> None:
        # The attributes that the base class sets in its constructor are not used here.
        self._code = status
        self._keeps_alive: bool | None = None
        self._parts = (_head(status, content_type), extra)
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
            raise ConnectionResetError("the connection was closed")
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
        date = _date_of(int(time()))
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


def last_reply(status: int, content_type: str = "", body: bytes = b"") -> bytes:
    """Return a whole response, after which the connection is closed."""
    length = b"%d\r\nConnection: close\r\nDate: " % len(body)
    return b"".join((_head(status, content_type), length, _date_of(int(time())), b"\r\n\r\n", body))


@lru_cache(maxsize=1)
def _date_of(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


READABLE = (hdrs.METH_GET, hdrs.METH_HEAD)


def not_allowed(allowed: str = ", ".join(READABLE)) -> PrerenderedResponse:
    """Return the response to a request whose method is not in ``allowed``."""
    return PrerenderedResponse(405, extra=f"\r\nAllow: {allowed}".encode())


def health(path: str, not_ready_reasons: Sequence[str]) -> PrerenderedResponse:
    """Return the response of ``/livez`` or ``/readyz``."""
    if path == "/readyz" and not_ready_reasons:
        return PrerenderedResponse(503, TEXT, ("\n".join(not_ready_reasons) + "\n").encode())
    return PrerenderedResponse(200, TEXT, b"ok\n")


def log_fault(log: Log, error: BaseException, endpoint: str = "", event: str = FAULT) -> None:
    """Log an error of the server itself."""
    report, facts = describe_error(error), {"endpoint": endpoint} if endpoint else {}
    log.warning(event, **facts, error=report.summary, traceback=report.traceback)


MAX_REPLY_DELAY_S = 0.005
"""Age of the oldest queued reply at which the next one is sent at once with all before it."""
LARGE_REPLY = 65536
"""Size in bytes above which the socket may not accept a reply in one write."""


@dataclass(slots=True)
class ReplyBatcher:
    """What the connections of a listener share: it queues their replies and sends them in order.

    ``flush_audit`` is called before anything is sent and must not raise: it writes the buffered
    audit lines, so the audit line of a call is written before its reply is sent.
    """

    server: web.Server
    limits: ConnectionLimits
    refusals: RefusalLog
    log: Log
    flush_audit: Callable[[], None]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    batch: int = 0
    """Number of the batch that is being filled; a reply of an earlier one has been sent."""
    _context: Context = field(default_factory=Context)
    _queue: list[tuple[asyncio.Transport, bytes, bool]] = field(default_factory=list)
    _oldest_at: float = 0.0

    def put(self, transport: asyncio.Transport, content: bytes, *, closes: bool = False) -> int:
        """Queue a reply and return the number of its batch.

        The batch is sent in the next turn, or now if its oldest reply has waited too long. The
        transport is closed after a reply that ``closes`` it.
        """
        now, batch = monotonic(), self.batch
        self._queue.append((transport, content, closes))
        if len(self._queue) == 1:
            self._oldest_at = now
            # The context variables of one call must not be visible while others are sent.
            self.loop.call_soon(self.flush, context=self._context)
        elif now - self._oldest_at > MAX_REPLY_DELAY_S:
            self.flush()
        return batch

    def flush(self) -> None:
        """Write the audit lines and send all replies; drop those of closed connections."""
        self.batch += 1
        self.flush_audit()
        queue, self._queue = self._queue, []
        for transport, content, closes in queue:
            if not transport.is_closing():
                try:
                    _write(transport, content)
                    if closes:
                        transport.close()
                except Exception as error:  # noqa: BLE001 - the other replies must still be sent
                    transport.abort()
                    log_fault(self.log, error, event="a reply could not be sent")


def _write(transport: asyncio.Transport, content: bytes) -> None:
    """Write a reply so that a client that does not read a large one is detected.

    asyncio's TLS passes all pending data to the socket and checks only afterwards whether to pause
    the writer. Writing the last byte separately triggers that check.
    """
    if len(content) > LARGE_REPLY:
        transport.write(content[:-1])
        content = content[-1:]
    transport.write(content)


DRAIN_POLL_S = 0.01
"""Seconds between two looks whether a client has read its reply, while the server stops."""
DRAIN_BYTES = 65536
"""Bytes that are read before a refused connection is closed: unread ones would make the kernel
discard the reply.
"""


class PolicyProtocol(BoundedHandler):
    """The protocol of a connection of a node: it batches replies, logs refusals, and neither
    replies nor logs repeat what a client sent.
    """

    _batch = -1
    """The number of the batch with its last reply."""
    _has_eof = False

    def __init__(self, batcher: ReplyBatcher, connection: Connection) -> None:
        super().__init__(batcher.server, batcher.loop, batcher.limits, connection)
        self._batcher = batcher

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start reading requests."""
        writable = cast("asyncio.Transport", transport)
        # Any unsent byte pauses writing, so a client that does not read is detected. With a limit
        # of 0 asyncio's TLS would pause on an empty buffer.
        writable.set_write_buffer_limits(high=1)
        connection = self.connection
        connection.close = partial(self._abort, writable)
        if certificate := transport.get_extra_info("peercert"):
            connection.not_after = ssl.cert_time_to_seconds(certificate["notAfter"])
        super().connection_made(transport)

    def _abort(self, transport: asyncio.WriteTransport) -> None:
        """Close the connection now, but after a reply that is queued."""
        self.flush()
        transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio's own type, not aiohttp's
        """Answer the requests sent before the client closed its side, then close (RFC 9112, 9.6).

        Return true to keep the connection open while requests are unanswered. With TLS both sides
        close together, and only replies that are ready are sent.
        """
        self._batcher.flush()
        is_cut_off = 0 < self.body_left < UNKNOWN
        if self.is_all_answered or is_cut_off or self.ssl_context is not None:
            return False
        self._has_eof = True
        return True

    def expired(self, *, is_reply: bool) -> None:
        """Note a request or a reply that took too long; idleness is not a refusal."""
        if is_reply:
            self.note_refusal(WRITE_TIMEOUT, CLOSED)
        elif self.received:
            self.note_refusal(TIMED_OUT, 408)

    def refuse(self, reason: str, status: int) -> None:
        """Answer a request that is not read, after the replies to those before it."""
        transport = self.transport
        if transport is None or not self.is_all_answered:
            super().refuse(reason, status)
            return
        self.flush()
        self.note_refusal(reason, status)
        self.send_refusal(transport, status)

    def send_refusal(self, transport: asyncio.Transport, status: int) -> None:
        """Answer a request that is not read, and close the connection."""
        with suppress(OSError):
            os.read(transport.get_extra_info("socket").fileno(), DRAIN_BYTES)
        transport.write(last_reply(status))
        self.force_close()

    def note_refusal(self, reason: str, status: int) -> None:
        """Count and record a refusal."""
        self._batcher.refusals.note(reason, status, self.connection.peer)

    def send(self, transport: asyncio.Transport, content: bytes, *, closes: bool = False) -> None:
        """Queue a reply for the batch of this turn.

        The second one of a turn is sent at once: a client that pipelines requests and reads no
        reply must not fill the memory with queued replies.
        """
        batcher = self._batcher
        batch = batcher.put(transport, content, closes=closes)
        if self.is_deaf or self._has_eof or self._batch == batch:
            batcher.flush()
        else:
            self._batch = batch
        if closes:
            self.is_deaf = True
            self.transport = None  # aiohttp would close it before the reply is sent

    def log_access(self, *_: Any, **__: Any) -> None:
        """Count a reply; close the connection after the last one if the client has done so."""
        super().log_access()
        if self._has_eof and self.is_all_answered:
            super().close()

    def flush(self) -> None:
        """Send the queued replies now."""
        if self._batch == self._batcher.batch:
            self._batcher.flush()

    def end(self) -> None:
        """Close the connection after the call in flight, also while it is idle."""
        if self.is_all_answered:
            self.force_close()
        else:
            self.close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's
        """Close the connection after the client has read its replies and the call in flight is
        answered; both together take at most ``timeout`` seconds.
        """
        self._batcher.flush()
        clock = self._batcher.loop.time
        deadline = clock() + (timeout or 0.0)
        while self.writing_paused and self.transport is not None and clock() < deadline:  # noqa: ASYNC110 - a client reads
            await asyncio.sleep(DRAIN_POLL_S)
        # aiohttp treats 0 as no timeout.
        await super().shutdown(max(deadline - clock(), 0.001))

    def failed(self, error: Exception) -> None:
        """Log an error that has ended the task of the connection, and close it."""
        log_fault(self._batcher.log, error)
        self.note_refusal(FAULT, CLOSED)
        self.connection.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return and log the response to a malformed request or an internal error.

        aiohttp's default response would repeat the offending line.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("part of the reply has been sent already")
        reason, status = self.refusal(exc, status)
        if reason is FAULT:
            log_fault(self._batcher.log, exc or sys.exception() or RuntimeError())
        self.note_refusal(reason, status)
        response = PrerenderedResponse(status, *self.content_of_refusal(status))
        response.force_close()
        return response

    def content_of_refusal(self, status: int) -> tuple[str, bytes]:
        """Return content type and body of the response to a request that is not read."""
        return "", b""
