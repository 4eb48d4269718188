"""The HTTP protocol of one connection: time limits, and responses to malformed requests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import cast

from aiohttp import web

from pexpolicy.access.certificates import client_not_after
from pexpolicy.access.connections import Connection, Stage
from pexpolicy.access.refusals import CLOSED, FAULT, TIMED_OUT, WRITE_TIMEOUT, RefusalLog
from pexpolicy.config.schema.limits import LimitsTable
from pexpolicy.errors import Log, describe_error
from pexpolicy.server.http.aiohttp_internals import BoundedHandler
from pexpolicy.server.http.malformed import refusal_of
from pexpolicy.server.http.reply_batcher import ReplyBatcher
from pexpolicy.server.http.response import BatchingTransport, PrerenderedResponse
from pexpolicy.tasks import hide


def protocol_factory(
    server: web.Server,
    *,
    refusals: RefusalLog,
    limits: LimitsTable,
    log: Log,
    flush_audit: Callable[[], None],
    kind: type[PolicyProtocol] | None = None,
) -> Callable[[Connection], PolicyProtocol]:
    """Return a factory of protocols that send their replies together, after ``flush_audit``."""
    loop = asyncio.get_running_loop()
    kind = kind or PolicyProtocol
    batcher = ReplyBatcher(loop, log, flush_audit)

    def protocol(connection: Connection) -> PolicyProtocol:
        return kind(
            server,
            loop=loop,
            connection=connection,
            refusals=refusals,
            limits=limits,
            log=log,
            batcher=batcher,
        )

    return protocol


class PolicyProtocol(BatchingTransport, BoundedHandler):
    """aiohttp's protocol with time limits, and without responses or logs that repeat client input.

    A request must be complete ``request_seconds`` after its first byte. On an unauthenticated
    connection the time counts from the accept, or from the previous request. The client must read
    a reply within the same time.
    """

    __slots__ = (
        *("_batch", "_batcher", "_closes", "_drained", "_has_eof", "_incomplete_since"),
        *("_latest_at", "_limits", "_log", "_refusals", "_replies", "_request_timer"),
        *("_write_timer", "connection"),
    )

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        connection: Connection,
        refusals: RefusalLog,
        limits: LimitsTable,
        log: Log,
        batcher: ReplyBatcher,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            header_bytes=limits.header_bytes,
            idle_seconds=limits.idle_seconds,
        )
        self.connection = connection
        self._refusals = refusals
        self._limits = limits
        self._log = log
        self._batcher = batcher
        self._batch = -1
        self._closes = False
        self._has_eof = False
        self._replies = 0
        self._incomplete_since: float | None = None
        self._latest_at = connection.since
        self._request_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start reading requests, in a task that is hidden from plugins."""
        super().connection_made(transport)
        writable = cast("asyncio.Transport", transport)
        # Any unsent byte pauses writing, so a client that does not read is detected. With a limit
        # of 0 asyncio's TLS would pause on an empty buffer.
        writable.set_write_buffer_limits(high=1)
        self.connection.close = partial(self._abort, writable)
        self.connection.not_after = client_not_after(transport)
        self._start_request_timer(self.connection.since + self._limits.request_seconds)
        if self.reading is not None:
            hide(self.reading)
            self.reading.add_done_callback(self._on_reading_done)

    def _on_reading_done(self, task: asyncio.Task[None]) -> None:
        """Close the connection if a request ended the task, as nothing would answer it."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(error)
            self._refusals.note(FAULT, CLOSED, self.connection.peer)
            self.connection.close()

    def _report(self, error: BaseException) -> None:
        report = describe_error(error)
        self._log.warning(FAULT, error=report.summary, traceback=report.traceback)

    def _abort(self, transport: asyncio.WriteTransport) -> None:
        """Close the connection now, but after a reply that is queued."""
        self.flush()
        transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the timers and stop counting the connection."""
        for timer in (self._request_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._write_timer = None
        self._set_drained()
        self.connection.ended()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data and update the deadline of an incomplete request."""
        requests = self.requests
        count = requests.parsed
        super().data_received(data)
        if requests.deferred is not None:
            super().data_received(b"")
        if requests.failure is not None:
            # The frames of its traceback refer to the received data and to the error itself.
            requests.failure.__traceback__ = None
        if self.connection.admission is None:
            self._note_progress(count)
        if requests.is_incomplete:
            if self._incomplete_since is None or requests.parsed != count:
                self._incomplete_since = self.event_loop.time()
                if self._request_timer is None:
                    self._start_request_timer(self._incomplete_since + self._limits.request_seconds)
        elif requests.parsed != count:
            self._incomplete_since = None
            if self.connection.admission is None:
                self._latest_at = self.event_loop.time()

    def _note_progress(self, parsed: int) -> None:
        """Note what was received on an unauthenticated connection that had ``parsed`` requests.

        A request after others gives no protection, as those were refused: strangers that repeat
        theirs would keep every connection.
        """
        if self.requests.parsed == parsed:
            self.connection.received_part()
        elif not parsed:
            self.connection.move_to(Stage.PENDING)

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio's own type, not aiohttp's
        """Answer the requests sent before the client closed its side, then close (RFC 9112, 9.6).

        Return true to keep the connection open while requests are unanswered. With TLS both sides
        close together, and only replies that are ready are sent.
        """
        self._batcher.flush()
        if self._is_all_answered() or self._is_encrypted():
            return False
        self._has_eof = self._closes = True
        return True

    def _is_all_answered(self) -> bool:
        return self._replies == self.requests.parsed

    def _is_encrypted(self) -> bool:
        return self.ssl_context is not None

    def _start_request_timer(self, when: float) -> None:
        self._request_timer = self.event_loop.call_at(when, self._on_request_timeout)

    def _on_request_timeout(self) -> None:
        """Close the connection if a request is incomplete, or if it is idle and unauthenticated.

        Only an incomplete request is logged as a refusal. A request does not move the timer, which
        costs as much as creating a task: it is started again here if the time is not over yet.
        """
        self._request_timer = None
        now, seconds = self.event_loop.time(), self._limits.request_seconds
        is_unauthenticated = self.connection.admission is None
        since = self._latest_at if is_unauthenticated else self._incomplete_since
        if not self._is_all_answered():
            self._start_request_timer(now + seconds)
        elif since is not None and now < since + seconds:
            self._start_request_timer(since + seconds)
        elif since is not None:
            if self._incomplete_since is not None:
                self._refusals.note(TIMED_OUT, HTTPStatus.REQUEST_TIMEOUT, self.connection.peer)
            self.connection.close()

    def send(self, transport: asyncio.Transport, content: bytes, *, closes: bool = False) -> None:
        """Queue a reply for the batch of this turn.

        The second one of a turn is sent at once: a client that pipelines requests and reads no
        reply must not fill the memory with queued replies.
        """
        self._count_reply()
        batcher = self._batcher
        batch = batcher.put(transport, content, closes=closes)
        if closes:
            self.transport = None  # aiohttp would close it before the reply is sent
        if self._closes or self._batch == batch:
            batcher.flush()
            if self._has_eof and self._is_all_answered():
                super().close()
        else:
            self._batch = batch

    def _count_reply(self) -> None:
        self._replies += 1
        if self.connection.admission is None:
            self.connection.move_to(Stage.REFUSED)

    def count_reply(self) -> None:
        """Count a reply that was written to the transport and not queued."""
        self._count_reply()
        if self._has_eof and self._is_all_answered():
            super().close()

    def flush(self) -> None:
        """Send the queued replies now."""
        if self._batch == self._batcher.batch:
            self._batcher.flush()

    def close(self) -> None:
        """Close the connection after the reply that is being made, or now if there is none."""
        self._closes = True
        self._batcher.flush()
        super().close()

    def force_close(self) -> None:
        """Send the queued replies and close the connection now."""
        self._closes = True
        self._batcher.flush()
        super().force_close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's
        """Close the connection after the client has read its replies and the call in flight is
        answered; both together take at most ``timeout`` seconds.
        """
        self._batcher.flush()
        began = self.event_loop.time()
        if self._write_timer is not None:
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(timeout):
                    self._drained = self.event_loop.create_future()
                    await self._drained
        if timeout is not None:
            # aiohttp treats 0 as no timeout.
            timeout = max(timeout - (self.event_loop.time() - began), 0.001)
        await super().shutdown(timeout)

    def pause_writing(self) -> None:
        """Start the time limit for reading a reply."""
        super().pause_writing()
        self._write_timer = self.event_loop.call_later(
            self._limits.request_seconds, self._on_write_timeout
        )

    def resume_writing(self) -> None:
        """Cancel the time limit for reading a reply."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        self._set_drained()

    def _set_drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _on_write_timeout(self) -> None:
        self._refusals.note(WRITE_TIMEOUT, CLOSED, self.connection.peer)
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
            msg = "part of the reply has been sent already"
            raise ConnectionError(msg)
        reason, status = refusal_of(exc, status)
        if reason is FAULT:
            self._report(exc or sys.exception() or RuntimeError("unknown error"))
        self._refusals.note(reason, status, self.connection.peer)
        response = PrerenderedResponse(status, "", b"")
        response.force_close()
        return response
