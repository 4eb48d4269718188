"""aiohttp's protocol of a connection, with limits of size and time.

The policy listener, the admin listener and the web console share it. Only public methods of
aiohttp's protocol are overridden, and none of its parser is used: an incomplete request is stored
as bytes, and aiohttp receives whole requests, one at a time.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from pexpolicy.access.connections import Connection, ConnectionLimits
from pexpolicy.access.refusals import BODY, FAULT, MALFORMED, TOO_LARGE
from pexpolicy.tasks import hide

MAX_HEADERS = 100
MAX_LINES = MAX_HEADERS + 2
"""The maximum of headers, with the request line and the empty line at the end."""
MAX_UNANSWERED = 8
"""Requests of a connection that aiohttp holds; further ones wait as bytes."""
BEGINNING_BYTES = 16
"""Bytes of an incomplete request that are checked at once."""
UNKNOWN = sys.maxsize
"""The size of a chunked body. The connection has to be closed after the reply."""
_END = b"\r\n\r\n"
OTHER_VERSIONS = (None, b"0.9", b"2.0")
"""Versions that aiohttp accepts too."""
_VERSIONS = (b" HTTP/1.1", b" HTTP/1.0")
_BEGINNING = re.compile(rb"[A-Z-]+( .*)?", re.DOTALL)
"""What the first bytes of a request are; those of TLS are refused at once."""
_REQUEST_LINE = re.compile(rb"[A-Z-]+ +([^ ]+)(?: +[A-Z]+/(\d\.\d))?")
_ABOUT_BODY = re.compile(rb"\n(content-length|transfer-encoding)[ \t]*:([^\r\n]*)", re.IGNORECASE)
_NOT_OURS = (b"PRI ", b"CONNECT ")
"""Methods whose targets are no URLs: that of HTTP/2, and that for a proxy."""
_MALFORMED = b"\0" + _END
"""What makes aiohttp answer with an error, after the requests before it."""
_logger = logging.getLogger("pexpolicy.http")
"""The logger for aiohttp's own messages, which is disabled because they repeat client input."""
_logger.disabled = True


class _Refused(Exception):
    """A request is refused before aiohttp receives it."""


class BoundedHandler(web.RequestHandler):
    """aiohttp's protocol with limits of size, number and time.

    A request must be complete within ``request_seconds`` after its first byte. While no call was
    admitted on the connection, the time counts from the accept, or from the previous request. The
    client must read a reply within the same time.

    A handler is called after the body of its request has arrived, or before, for a path whose
    bodies are ``streamed``: it calls ``accept_body``, or closes the connection. Override
    ``handle_error`` for the replies to what is refused, and ask ``refusal`` for their reason and
    status.
    """

    parsed = 0
    """Requests that were given to aiohttp, or refused."""
    answered = 0
    """Replies to them."""
    is_deaf = False
    """Whether further data is ignored."""
    reading: asyncio.Task[None] | None = None
    """The task that answers the requests of the connection."""
    body_left = 0
    """Bytes of the streamed body that aiohttp was not given; ``UNKNOWN`` for a chunked one."""
    _takes_body = False
    _is_paused = False
    _expected = 0
    """The size of the next request, once its head is complete."""
    _refusal: tuple[str, int] | None = None

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        limits: ConnectionLimits,
        connection: Connection,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=cast("Any", None),  # aiohttp accepts none, but its annotation does not
            tcp_keepalive=False,
            keepalive_timeout=limits.idle_seconds,
            max_line_size=limits.header_bytes,
            max_field_size=limits.header_bytes,
            max_headers=MAX_LINES,
            auto_decompress=False,
            logger=_logger,
        )
        self.connection = connection
        self.received = bytearray()
        """What was received of requests that aiohttp has not been given."""
        self._limits = limits
        self._limit = limits.header_bytes

    async def start(self) -> None:
        """Answer requests, in a task that is hidden from plugins."""
        self.reading = asyncio.current_task()
        hide(self.reading)
        try:
            await super().start()
        except Exception as error:  # noqa: BLE001 - nothing else would see it
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Close the connection, as an error has ended the task that answers its requests."""
        self.force_close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start reading requests."""
        self.connection.expire = self._expire
        super().connection_made(transport)
        # From Python 3.12 on, a task is registered after its first step, which was taken now.
        hide(self.reading)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Discard unanswered requests, and stop counting the connection."""
        self.is_deaf = True
        self.connection.ended()
        self.received.clear()
        if self.body_left and self.reading is not None:
            # What its handler holds of a body would stay in memory until it has its turn.
            self.reading.cancel()
        self.reading = None  # the traceback of its cancellation refers to this
        super().connection_lost(exc)

    @property
    def is_all_answered(self) -> bool:
        """Whether no request waits for its reply."""
        return self.answered >= self.parsed

    def _expire(self, is_reply: bool) -> None:  # noqa: FBT001 - as `Connection.expire`
        connection = self.connection
        if not is_reply and not self.is_all_answered:
            connection.wait()
            connection.received(len(self.received))
            return
        close = connection.close
        connection.ended()
        self.expired(is_reply=is_reply)
        close()

    def expired(self, *, is_reply: bool) -> None:
        """Note that the connection is closed: it was idle, or its request or the reading of its
        reply took too long.
        """

    def data_received(self, data: bytes) -> None:
        """Give aiohttp the requests that are whole, and note an incomplete one."""
        if self.is_deaf:
            return
        line = data.find(b"\r")
        if (
            not self.received
            and not self.body_left
            and data.startswith(b"GET /")
            # All that follows is searched after the request line, which is long.
            and data.find(b"\n") == line + 1
            and data.endswith(_VERSIONS, 0, line)
            and data.find(_END, line) == len(data) - len(_END)
            and len(data) <= self._limit
            and data.count(b"\n", line) <= MAX_LINES
            and _ABOUT_BODY.search(data, line) is None
            and self.parsed - self.answered < MAX_UNANSWERED
        ):
            # The usual case: exactly one whole request.
            self.parsed += 1
            super().data_received(data)
        elif data:
            parsed = self.parsed
            self.received += data
            self._feed_received(max(len(self.received) - len(data) - len(_END), 0))
            self.connection.received(len(self.received), is_new=self.parsed != parsed)
        else:
            super().data_received(data)  # aiohttp resumes reading a body

    def _feed_received(self, searched: int = 0) -> None:
        """Give aiohttp the whole requests of what was received; read on if few are unanswered.

        The end of a head is not in the first ``searched`` bytes.
        """
        received = self.received
        try:
            while received and not self.is_deaf and self.parsed - self.answered < MAX_UNANSWERED:
                if self.body_left:
                    if not self._takes_body:
                        self._pause(paused=len(received) < self.body_left)
                        return
                    piece = bytes(received[: self.body_left])
                    del received[: len(piece)]
                    self.body_left -= len(piece) if self.body_left < UNKNOWN else 0
                    super().data_received(piece)
                    continue
                size = self._expected or self._find_end(received, searched)
                if not size or len(received) < size:
                    self._expected = size
                    break
                request = bytes(received[:size])
                del received[:size]
                self._expected = searched = 0
                self.parsed += 1
                super().data_received(request)
        except _Refused as refused:
            self.received = bytearray()
            self.is_deaf = True
            self.refuse(*refused.args)
        else:
            self._pause(paused=self.parsed - self.answered >= MAX_UNANSWERED)

    def accept_body(self) -> None:
        """Give aiohttp the streamed body, as it arrives."""
        self._takes_body = True
        self._feed_received()
        self.connection.received(len(self.received))

    def _pause(self, *, paused: bool) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing() and paused != self._is_paused:
            self._is_paused = paused
            (transport.pause_reading if paused else transport.resume_reading)()

    def _find_end(self, received: bytearray, searched: int) -> int:
        """Return the size of the first request with its body; 0 if its head is incomplete.

        Raises ``_Refused``.
        """
        # One empty line before a request is ignored (RFC 9112, 2.2).
        start = 2 if received[:2] == b"\r\n" else 0
        end = received.find(_END, max(start, searched)) + len(_END)
        if end < len(_END):
            if len(received) > self._limit:
                raise _Refused(TOO_LARGE, 431)
            first = received[start : start + BEGINNING_BYTES]
            if first and received != b"\r" and not _BEGINNING.fullmatch(first):
                raise _Refused(MALFORMED, 400)
            return 0
        head = bytes(received[:end])
        if end > self._limit or head.count(b"\n") > MAX_LINES:
            raise _Refused(TOO_LARGE, 431)
        line = _REQUEST_LINE.fullmatch(head, start, head.find(b"\r", start))
        if line is None or head.startswith(_NOT_OURS, start) or not _is_usable(line[1]):
            raise _Refused(MALFORMED, 400)
        if line[2] in OTHER_VERSIONS:
            raise _Refused(MALFORMED, 505)
        return end + self._body_size(head, line[1])

    def _body_size(self, head: bytes, target: bytes) -> int:
        """Return the size of the body. Raises ``_Refused`` for one that is not accepted."""
        headers = _ABOUT_BODY.findall(head)
        if not headers:
            return 0
        (name, value), *others = headers
        value = value.strip(b" \t").lower()
        is_chunked = name.lower() == b"transfer-encoding"
        if others or not (is_chunked or value.isdigit()):
            raise _Refused(MALFORMED, 400)
        # More digits would be too large as well.
        size = UNKNOWN if is_chunked else int(value.lstrip(b"0")[:18] or b"0")
        if not size:
            return 0
        limits = self._limits
        if target.partition(b"?")[0] == limits.streamed and (not is_chunked or value == b"chunked"):
            self.body_left, self._takes_body = size, False
            return 0
        if is_chunked or not limits.body_bytes or not target.startswith(limits.body_prefix):
            raise _Refused(BODY, 400)
        if size > limits.body_bytes:
            raise _Refused(BODY, 413)
        return size

    def refuse(self, reason: str, status: int) -> None:
        """Answer a request that aiohttp is not given, after the replies to those before it.

        ``handle_error`` makes that reply; nothing more is read.
        """
        self._refusal = reason, status
        self._pause(paused=True)
        self.parsed += 1
        super().data_received(_MALFORMED)

    def refusal(self, error: BaseException | None, status: int) -> tuple[str, int]:
        """Return the reason and the status for an error to which aiohttp gives this status."""
        if self._refusal is not None and isinstance(error, HttpProcessingError):
            return self._refusal
        return (FAULT if status >= HTTPStatus.INTERNAL_SERVER_ERROR else MALFORMED), status

    def log_access(self, *_: Any, **__: Any) -> None:
        """Count a reply, and give aiohttp the requests that waited for it.

        aiohttp calls this after each reply, and there is no log of them.
        """
        self.answered += 1
        connection = self.connection
        if connection.admission is None:
            # A client that gets refusals only may not keep its connection by repeating requests.
            connection.wait()
        if self._is_paused and not self.is_deaf:
            self._feed_received()
            connection.received(len(self.received))

    def pause_writing(self) -> None:
        """Start the time limit for reading a reply."""
        super().pause_writing()
        self.connection.sending()

    def resume_writing(self) -> None:
        """End the time limit for reading a reply."""
        super().resume_writing()
        self.connection.sent()

    def flush(self) -> None:
        """Send the replies that a subclass has queued."""

    def close(self) -> None:
        """Close the connection after the reply that is being made."""
        self.flush()
        self.is_deaf = True
        super().close()

    def force_close(self) -> None:
        """Send the queued replies and close the connection now."""
        self.flush()
        self.is_deaf = True
        super().force_close()


def _is_usable(target: bytes) -> bool:
    """Return whether aiohttp can make a request of a target."""
    try:
        if not target.startswith(b"/"):
            URL(target.decode("ascii"), encoded=True).host  # noqa: B018 - decoding it may fail
    except ValueError:
        return False
    return True
