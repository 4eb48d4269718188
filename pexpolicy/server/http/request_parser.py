"""The request parser: aiohttp's parser with limits on what it is fed."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from aiohttp import EMPTY_PAYLOAD, hdrs
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError

if TYPE_CHECKING:
    from aiohttp.http import HttpRequestParser

Parsed = tuple[list[Any] | tuple[()], bool, bytes]
"""Requests, and what else aiohttp's parser returns."""

MAX_HEADERS = 100
"""Maximum number of headers of a request."""
EARLY_BYTES = 16
"""Bytes of an incomplete head that are parsed at once, so TLS on a plain port is rejected early."""
_END = b"\r\n\r\n"
_CONTENT_LENGTH = hdrs.CONTENT_LENGTH
_TRANSFER_ENCODING = hdrs.TRANSFER_ENCODING
_NO_REQUESTS: Parsed = ((), False, b"")


class HeadTooLargeError(HttpProcessingError):
    """Raised for a request head that is too long or has too many headers."""


class HttpVersionError(HttpProcessingError):
    """Raised for a request of another major version than HTTP/1."""


class RequestBodyError(HttpProcessingError):
    """Raised for a request that has or announces a body."""


class BoundedParser:
    """Feeds complete request heads to a parser, one at a time, and never a body.

    ``limit`` is the maximum size of a head in bytes, from the request line to the empty line after
    the last header. ``max_queued`` is the maximum number of requests in ``queued``. An incomplete
    head is stored unparsed, so it costs only its bytes. aiohttp uses this instead of its parser.
    """

    __slots__ = (
        *(
            "_buffer",
            "_feed",
            "_fed",
            "_limit",
            "_max_queued",
            "_queued",
            "_searched",
            "_set_upgraded",
        ),
        *("deferred", "failure", "is_incomplete", "message_consumed", "parsed"),
    )

    def __init__(
        self, parser: HttpRequestParser, *, limit: int, queued: Sized, max_queued: int
    ) -> None:
        self.parsed = 0
        """Number of requests so far, including a rejected one."""
        self.is_incomplete = False
        """True while a request head has been received in part."""
        self.failure: HttpProcessingError | None = None
        """The error after which nothing more is read."""
        self.deferred: HttpProcessingError | None = None
        """An error that the next ``feed_data`` raises, after the requests in front of it."""
        self.message_consumed = parser.message_consumed
        self._feed = parser.feed_data
        self._set_upgraded = parser.set_upgraded
        self._limit = limit
        self._queued = queued
        self._max_queued = max_queued
        self._buffer = bytearray()
        self._fed = 0
        self._searched = 0

    def feed_data(self, data: bytes) -> Parsed:
        """Return the requests that are complete, in the form of aiohttp's parser.

        Raise ``HeadTooLargeError``, ``RequestBodyError`` or an error of the parser; all later data
        is discarded. After complete requests the error is ``deferred``.
        """
        size = len(data)
        if (
            data.find(_END) == size - len(_END) >= 0
            and not self._buffer
            and size <= self._limit
            and self.failure is None
        ):
            # The usual case: exactly one complete request.
            return self._parse(data), False, b""
        if self.deferred is not None:
            error, self.deferred = self.deferred, None
            raise error
        return self._feed_fragment(data) if self.failure is None else _NO_REQUESTS

    def _feed_fragment(self, data: bytes) -> Parsed:
        messages: list[Any] = []
        try:
            self._parse_complete(data, messages)
        except HttpProcessingError as error:
            if not messages:
                raise
            self.deferred = error
        return messages, False, b""

    def _parse_complete(self, data: bytes, messages: list[Any]) -> None:
        """Append the requests that are complete."""
        buffer = self._buffer
        buffer += data
        self.is_incomplete = False
        while len(self._queued) + len(messages) < self._max_queued:
            with_body = self._take_body(buffer)
            if with_body is None:
                break
            messages += with_body
            end = buffer.find(_END, self._searched)
            if end < 0:
                if buffer:
                    self._store_incomplete()
                break
            end += len(_END)
            self._check_size(end)
            # The part of a complete head that the parser has not been fed yet.
            piece = bytes(buffer[self._fed : end])
            del buffer[:end]
            self._fed = self._searched = 0
            messages += self._parse(piece)

    def _store_incomplete(self) -> None:
        size = len(self._buffer)
        self._check_size(size)
        self._searched = max(size - len(_END) + 1, 0)
        if self._fed < EARLY_BYTES and size > self._fed:
            first = bytes(self._buffer[self._fed : EARLY_BYTES])
            self._fed += len(first)
            try:
                self._feed(first)
            except HttpProcessingError as error:
                self._fail(error)
                raise
        self.is_incomplete = True

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise self._fail(HeadTooLargeError())

    def _parse(self, piece: bytes) -> list[Any]:
        """Parse the request whose head ends with ``piece``."""
        try:
            messages, upgraded, _ = self._feed(piece)
        except HttpProcessingError as error:
            failure = error
        else:
            if upgraded:
                # Protocol upgrades are ignored: the next bytes are an HTTP request.
                self._set_upgraded(False)  # noqa: FBT003 - aiohttp's signature
            for message, payload in messages:
                if (problem := _problem(message)) is not None:
                    raise self._fail(problem)
                if payload is EMPTY_PAYLOAD or payload.is_eof():
                    headers = message.headers
                    length = headers.get(_CONTENT_LENGTH)
                    if (length is None or not int(length)) and _TRANSFER_ENCODING not in headers:
                        self.parsed += 1
                        return messages
                if self._expects_body(messages):
                    return []
                raise self._fail(RequestBodyError())
            # No request in several empty lines or the preface of HTTP/2, two after bare line feeds.
            failure = BadHttpMessage("not one request")
        if piece.count(b"\n") > MAX_HEADERS + 1:
            failure = HeadTooLargeError()
        raise self._fail(failure)

    def _expects_body(self, messages: list[Any]) -> bool:
        """Return whether the body of a request is accepted, and arrives next."""
        return False

    def _take_body(self, buffer: bytearray) -> list[Any] | None:
        """Remove a body from the buffer; ``None`` if a part of it is missing."""
        return []

    def _fail(self, error: HttpProcessingError) -> HttpProcessingError:
        self.parsed += 1
        self.failure = error
        self.is_incomplete = False
        self._buffer = bytearray()
        return error

    def close(self) -> None:
        """Discard the buffer and the references to the parser, which refers to the connection."""
        self.is_incomplete = False
        self._buffer = bytearray()
        del self._feed, self._set_upgraded, self.message_consumed


def _problem(message: Any) -> HttpProcessingError | None:
    """Return why a parsed request is refused: its version, or a host in its target that aiohttp
    could make no request of.
    """
    if message.version.major != 1:
        return HttpVersionError()
    if not message.path.startswith("/"):
        try:
            message.url.host  # noqa: B018 - decodes the host name, which may fail
        except ValueError:
            return BadHttpMessage("invalid host")
    return None
