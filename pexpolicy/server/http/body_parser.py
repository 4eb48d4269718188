"""The request parser of the admin listener, which accepts small bodies for some paths."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs
from aiohttp.http_exceptions import HttpProcessingError

from pexpolicy.server.http.request_parser import BoundedParser, Parsed, RequestBodyError

if TYPE_CHECKING:
    from aiohttp.http import HttpRequestParser


class BodyTooLargeError(RequestBodyError):
    """Raised for a body that is larger than the limit."""


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """The maximum size in bytes of a body, for the paths that begin with ``prefix``."""

    prefix: str
    size: int


class BodyParser(BoundedParser):
    """Returns a request after its body has arrived, so a handler never waits for it.

    The body needs a ``Content-Length``. Requests for other paths may have none.
    """

    __slots__ = ("_body_limit", "_left", "_pending")

    def __init__(
        self,
        parser: HttpRequestParser,
        *,
        limit: int,
        queued: Sized,
        max_queued: int,
        bodies: BodyLimit,
    ) -> None:
        super().__init__(parser, limit=limit, queued=queued, max_queued=max_queued)
        self._body_limit = bodies
        self._left = 0
        self._pending: list[Any] = []

    def feed_data(self, data: bytes) -> Parsed:
        """As in ``BoundedParser``; also raise ``BodyTooLargeError``."""
        if self._left and self.failure is None:
            return self._feed_fragment(data)
        return super().feed_data(data)

    def _expects_body(self, messages: list[Any]) -> bool:
        """Wait for the body of a request, if it may have one."""
        ((message, _),) = messages
        length = message.headers.get(hdrs.CONTENT_LENGTH)
        if (
            length is None
            or hdrs.TRANSFER_ENCODING in message.headers
            or not message.path.startswith(self._body_limit.prefix)
        ):
            return False
        size = int(length)
        if size > self._body_limit.size:
            raise self._fail(BodyTooLargeError())
        self._left = size
        self._pending = messages
        self.is_incomplete = True
        return True

    def _take_body(self, buffer: bytearray) -> list[Any] | None:
        """Feed the body; return its request, or ``None`` if a part of the body is missing."""
        if not self._left:
            return []
        piece = bytes(buffer[: self._left])
        del buffer[: len(piece)]
        if piece:
            try:
                self._feed(piece)
            except HttpProcessingError as error:
                raise self._fail(error) from None
        self._left -= len(piece)
        if self._left:
            self.is_incomplete = True
            return None
        messages, self._pending = self._pending, []
        self.is_incomplete = False
        self.parsed += 1
        return messages

    def close(self) -> None:
        """Discard the request whose body has not arrived too."""
        self._pending = []
        self._left = 0
        super().close()
