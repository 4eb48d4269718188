"""Limits of requests, in front of aiohttp's parser."""

from __future__ import annotations

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
_NOTHING: Parsed = ((), False, b"")


class HeadTooLargeError(HttpProcessingError):
    """The head of a request is longer than it may be, or has more headers."""


class RequestBodyError(HttpProcessingError):
    """A request has a body, or announces one."""


class BoundedParser:
    """Hands whole heads to a parser, one at a time, and no byte of a body.

    ``limit`` is the longest head, from the request line to the empty line after the last header;
    ``queue`` how many requests may wait to be answered. A head that is not whole yet is kept as it
    came, so it costs no more than its bytes. aiohttp calls this in the place of its own parser.
    """

    __slots__ = (
        *("_given", "_held", "_limit", "_parser", "_queue", "_searched", "_waiting"),
        *("failure", "parsed"),
    )

    def __init__(self, parser: HttpRequestParser, *, limit: int, queue: int) -> None:
        self.parsed = 0
        """How many requests there were; one that is refused here counts as well."""
        self._parser: HttpRequestParser | None = parser
        self._limit = limit
        self._queue = queue
        self._waiting = 0
        self._held = bytearray()
        self._given = 0
        self._searched = 0
        self.failure: HttpProcessingError | None = None
        """Why nothing is read any more, once that is so."""

    @property
    def is_half_sent(self) -> bool:
        """True while the head of a request is not whole."""
        return bool(self._held) and self._waiting < self._queue

    def feed_data(self, data: bytes) -> Parsed:
        """Take what came; gives the requests that are whole, as aiohttp's parser does.

        Raises ``HeadTooLargeError``, ``RequestBodyError``, or what the parser raises; afterwards
        everything that comes is dropped.
        """
        if self.failure is not None:
            return _NOTHING
        size = len(data)
        if not self._held and data.find(_END) == size - len(_END) >= 0 and size <= self._limit:
            # One whole request, as nearly always.
            return self._parse(data), False, b""
        held = self._held
        held += data
        messages: list[Any] = []
        while self._waiting < self._queue:
            end = held.find(_END, self._searched)
            if end < 0:
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
            self._feed(first)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise self._failure(HeadTooLargeError())

    def _parse(self, piece: bytes) -> list[Any]:
        """Parse the request whose head ends with ``piece``."""
        messages = self._feed(piece)
        if not messages:
            # Several empty lines, or the preface of HTTP/2.
            raise self._failure(BadHttpMessage("no request"))
        message, payload = messages[0]
        headers = message.headers
        if (
            (payload is not EMPTY_PAYLOAD and not payload.is_eof())
            or hdrs.TRANSFER_ENCODING in headers
            or int(headers.get(hdrs.CONTENT_LENGTH, 0))
        ):
            raise self._failure(RequestBodyError())
        self.parsed += 1
        self._waiting += 1
        return messages

    def _feed(self, piece: bytes) -> list[Any]:
        assert self._parser is not None
        try:
            messages, upgraded, _ = self._parser.feed_data(piece)
        except HttpProcessingError as error:
            failure = error
        else:
            if upgraded:
                # No other protocol is spoken here: the next bytes are a request again.
                self._parser.set_upgraded(False)
            return messages
        has_too_many = piece.count(b"\n") > MAX_HEADERS + 1
        raise self._failure(HeadTooLargeError() if has_too_many else failure)

    def _failure(self, error: HttpProcessingError) -> HttpProcessingError:
        self.parsed += 1
        self.failure = error
        self._held = bytearray()
        return error

    def message_consumed(self) -> None:
        """Note that a request is no longer waiting."""
        if self._waiting:
            self._waiting -= 1
        if self._parser is not None:
            self._parser.message_consumed()

    def close(self) -> None:
        """Drop what is held, and the parser, which holds the connection."""
        self._held = bytearray()
        self._parser = None
