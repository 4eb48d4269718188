"""The HTTP protocol at its edge: what cannot even be parsed gets a short answer and an audit line,
and who keeps the server waiting is cut off.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from http import HTTPStatus
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from pexpolicy.access.certificates import client_not_after
from pexpolicy.access.connections import Connection
from pexpolicy.access.refusals import (
    BODY,
    CLOSED,
    FAULT,
    MALFORMED,
    TIMED_OUT,
    TOO_LARGE,
    WRITE_TIMEOUT,
    RefusalLog,
)
from pexpolicy.config.schema.access import LimitsTable
from pexpolicy.errors import Log, describe_error
from pexpolicy.server.http.aiohttp_internals import BoundedHandler
from pexpolicy.server.http.reply_batcher import ReplyBatcher
from pexpolicy.server.http.request_parser import HeadTooLargeError, RequestBodyError
from pexpolicy.server.http.response import PrerenderedResponse
from pexpolicy.tasks import hide


class PolicyProtocol(BoundedHandler):
    """aiohttp's protocol, less everything that repeats what a client sent: replies and log
    lines.

    A request has to be whole ``request_seconds`` after its first byte; on the connection of a
    stranger so long after the connection began, or after the last request. A reply has to be taken
    in the same time.
    """

    __slots__ = (
        *("_ends", "_half_sent", "_limits", "_log", "_outbox", "_overdue", "_put_in", "_refusals"),
        *("_answered", "_asked_all", "_taken", "_unread", "connection"),
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
        outbox: ReplyBatcher,
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
        self._outbox = outbox
        self._put_in = -1
        self._ends = False
        self._asked_all = False
        self._answered = 0
        self._half_sent: float | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._taken: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read requests, in a task that no plugin finds."""
        super().connection_made(transport)
        written = cast("asyncio.Transport", transport)
        # What is written is sent, and not kept for the end of a turn in which others are answered.
        # (0 would mean, to asyncio's TLS, that even nothing is too much to wait.)
        written.set_write_buffer_limits(high=1)
        self.connection.close = written.abort
        self.connection.not_after = client_not_after(transport)
        self._expect(self.connection.since + self._limits.request_seconds)
        hide(self.reading)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop waiting."""
        for timer in (self._overdue, self._unread):
            if timer is not None:
                timer.cancel()
        self._note_taken()
        self.connection.ended()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and see whether a request is still to be finished."""
        requests = self.requests
        count = requests.parsed
        super().data_received(data)
        if requests.failure is not None:
            # Its traceback has all that came in its frames, and these have the failure again.
            requests.failure.__traceback__ = None
        if requests.is_half_sent:
            if self._half_sent is None or requests.parsed != count:
                self._half_sent = self.event_loop.time()
                if self._overdue is None:
                    self._expect(self._half_sent + self._limits.request_seconds)
        elif requests.parsed != count:
            self._half_sent = None
            if self._overdue is not None:
                self._overdue.cancel()
                self._overdue = None
                if self.connection.is_unauthenticated:
                    self._expect(self.event_loop.time() + self._limits.request_seconds)

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio's own type, not aiohttp's
        """Answer what was asked before the client ended its side, and close behind that (RFC 9112,
        9.6); true where something is still to be answered.

        With TLS both sides end together: what is answered already leaves.
        """
        self._outbox.flush()
        if self._is_all_answered() or self._is_encrypted():
            return False
        self._asked_all = self._ends = True
        return True

    def _is_all_answered(self) -> bool:
        return self._answered == self.requests.parsed

    def _is_encrypted(self) -> bool:
        transport = self.transport
        return transport is not None and transport.get_extra_info("sslcontext") is not None

    def _expect(self, when: float) -> None:
        self._overdue = self.event_loop.call_at(when, self._is_overdue)

    def _is_overdue(self) -> None:
        """Cut off who is late. What is half sent is refused; silence is no request."""
        self._overdue = None
        now = self.event_loop.time()
        if not self._is_all_answered():
            self._expect(now + self._limits.request_seconds)
        elif self._half_sent is not None:
            whole_at = self._half_sent + self._limits.request_seconds
            if now < whole_at and not self.connection.is_unauthenticated:
                self._expect(whole_at)
                return
            self._refusals.note(TIMED_OUT, HTTPStatus.REQUEST_TIMEOUT, self.connection.peer)
            self.connection.close()
        elif self.connection.is_unauthenticated:
            self.connection.close()

    def send(self, transport: asyncio.Transport, content: bytes, *, last: bool) -> None:
        """Send a reply with the others of this turn; at once, behind those, where the connection
        ends with it.

        So is the second one of a turn: who sends many requests and reads no reply must not fill the
        memory with them.
        """
        self._answered += 1
        outbox = self._outbox
        outbox.put(transport, content)
        if last or self._ends or self._put_in == outbox.turn:
            outbox.flush()
            if self._asked_all and self._is_all_answered():
                super().close()
        else:
            self._put_in = outbox.turn

    def close(self) -> None:
        """End the connection behind the reply that is being made, or now."""
        self._ends = True
        self._outbox.flush()
        super().close()

    def force_close(self) -> None:
        """End the connection now; what was answered leaves."""
        self._ends = True
        self._outbox.flush()
        super().force_close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's
        """End the connection once what was answered is taken and the call under way is answered;
        each for at most ``timeout`` seconds, the first of which goes off the second.
        """
        self._outbox.flush()
        began = self.event_loop.time()
        if self.writing_paused and self.transport is not None:
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(timeout):
                    self._taken = self.event_loop.create_future()
                    await self._taken
        if timeout is not None:
            # None at all would be a wait without an end, to aiohttp.
            timeout = max(timeout - (self.event_loop.time() - began), 0.001)
        await super().shutdown(timeout)

    def pause_writing(self) -> None:
        """Cut off who does not read a reply."""
        super().pause_writing()
        self._unread = self.event_loop.call_later(self._limits.request_seconds, self._is_unread)

    def resume_writing(self) -> None:
        """Go on: what was written was read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        self._note_taken()

    def _note_taken(self) -> None:
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)

    def _is_unread(self) -> None:
        self._refusals.note(WRITE_TIMEOUT, CLOSED, self.connection.peer)
        self.connection.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and note it; the default would repeat the offending line.

        It also comes here what our own code raises outside of where that is caught.
        """
        if request.writer.output_size > 0:
            msg = "a part of the reply has left already"
            raise ConnectionError(msg)
        reason = MALFORMED
        if isinstance(exc, RequestBodyError):
            reason = BODY
        elif isinstance(exc, (HeadTooLargeError, LineTooLong)):
            reason, status = TOO_LARGE, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            reason = FAULT
            fault = describe_error(exc or sys.exception() or RuntimeError("no reason is known"))
            self._log.warning(FAULT, error=fault.summary, traceback=fault.traceback)
        self._refusals.note(reason, status, self.connection.peer)
        response = PrerenderedResponse(status, "", b"")
        response.force_close()
        return response
