"""Limits of requests, in front of aiohttp's parser."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from aiohttp import EMPTY_PAYLOAD, hdrs
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError

if TYPE_CHECKING:
    from aiohttp.http import HttpRequestParser

    Parsed = tuple[list[Any] | tuple[()], bool, bytes]

MAX_HEADERS = 100
"""Headers of one request."""
FIRST = 16
"""Bytes of a head that the parser gets before the head is whole, so that TLS on a plain port is
refused at once.
"""
_END = b"\r\n\r\n"
_CONTENT_LENGTH = hdrs.CONTENT_LENGTH
_TRANSFER_ENCODING = hdrs.TRANSFER_ENCODING
_NOTHING: Parsed = ((), False, b"")


class HeadTooLargeError(HttpProcessingError):
    """The head of a request is longer than it may be, or has more headers."""


class RequestBodyError(HttpProcessingError):
    """A request has a body, or announces one."""


class BoundedParser:
    """Hands whole heads to a parser, one at a time, and no byte of a body.

    ``limit`` is the longest head, from the request line to the empty line after the last header;
    ``queue`` how many requests may wait in ``queued`` to be answered. A head that is not whole yet
    is kept as it came, so it costs no more than its bytes. aiohttp calls this in the place of its
    own parser.
    """

    __slots__ = (
        *("_feed", "_given", "_held", "_limit", "_queue", "_queued", "_searched", "_set_upgraded"),
        *("failure", "is_half_sent", "message_consumed", "parsed"),
    )

    def __init__(self, parser: HttpRequestParser, *, limit: int, queued: Sized, queue: int) -> None:
        self.parsed = 0
        """How many requests there were; one that is refused here counts as well."""
        self.is_half_sent = False
        """True while the head of a request is not whole."""
        self.failure: HttpProcessingError | None = None
        """Why nothing is read any more, once that is so."""
        self.message_consumed = parser.message_consumed
        self._feed = parser.feed_data
        self._set_upgraded = parser.set_upgraded
        self._limit = limit
        self._queued = queued
        self._queue = queue
        self._held = bytearray()
        self._given = 0
        self._searched = 0

    def feed_data(self, data: bytes) -> Parsed:
        """Take what came; gives the requests that are whole, as aiohttp's parser does.

        Raises ``HeadTooLargeError``, ``RequestBodyError``, or what the parser raises; afterwards
        everything that comes is dropped.
        """
        size = len(data)
        if (
            data.find(_END) == size - len(_END) >= 0
            and not self._held
            and size <= self._limit
            and self.failure is None
        ):
            # One whole request, as nearly always.
            return self._parse(data), False, b""
        return self._in_pieces(data) if self.failure is None else _NOTHING

    def _in_pieces(self, data: bytes) -> Parsed:
        held = self._held
        held += data
        self.is_half_sent = False
        messages: list[Any] = []
        while len(self._queued) + len(messages) < self._queue:
            end = held.find(_END, self._searched)
            if end < 0:
                if held:
                    self._keep()
                break
            end += len(_END)
            self._check(end)
            # Only what the parser does not have yet; a head is whole where it ends with this.
            piece = bytes(held[self._given : end])
            del held[:end]
            self._given = self._searched = 0
            messages += self._parse(piece)
        return messages, False, b""

    def _keep(self) -> None:
        """Wait for the rest of a head."""
        size = len(self._held)
        self._check(size)
        self._searched = max(size - len(_END) + 1, 0)
        if self._given < FIRST and size > self._given:
            first = bytes(self._held[self._given : FIRST])
            self._given += len(first)
            try:
                self._feed(first)
            except HttpProcessingError as error:
                self._failed(error)
                raise
        self.is_half_sent = True

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise self._failed(HeadTooLargeError())

    def _parse(self, piece: bytes) -> list[Any]:
        """Parse the request whose head ends with ``piece``."""
        try:
            messages, upgraded, _ = self._feed(piece)
        except HttpProcessingError as error:
            failure = error
        else:
            if upgraded:
                # No other protocol is spoken here: the next bytes are a request again.
                self._set_upgraded(False)  # noqa: FBT003 - aiohttp calls it so
            for message, payload in messages:
                if payload is EMPTY_PAYLOAD or payload.is_eof():
                    headers = message.headers
                    length = headers.get(_CONTENT_LENGTH)
                    if (length is None or not int(length)) and _TRANSFER_ENCODING not in headers:
                        self.parsed += 1
                        return messages
                raise self._failed(RequestBodyError())
            # Several empty lines, or the preface of HTTP/2.
            failure = BadHttpMessage("no request")
        if piece.count(b"\n") > MAX_HEADERS + 1:
            failure = HeadTooLargeError()
        raise self._failed(failure)

    def _failed(self, error: HttpProcessingError) -> HttpProcessingError:
        self.parsed += 1
        self.failure = error
        self.is_half_sent = False
        self._held = bytearray()
        return error

    def close(self) -> None:
        """Drop what is held, and the parser, which holds the connection."""
        self.is_half_sent = False
        self._held = bytearray()
        del self._feed, self._set_upgraded, self.message_consumed
