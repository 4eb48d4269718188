"""A strict reader of HTTP replies from a socket."""

import asyncio
import re
from dataclasses import dataclass

LENGTH = re.compile(rb"\r\nContent-Length: *([0-9]+)\r\n", re.IGNORECASE)
TYPE = re.compile(rb"\r\nContent-Type: *([^\r\n]*)", re.IGNORECASE)
STATUS = re.compile(rb"HTTP/[0-9]\.[0-9] ([1-5][0-9][0-9]) [^\r\n]*\r\n")
BLOCK = 65_536


class UnreadableReplyError(Exception):
    """The server sent something that is no HTTP reply with a length; carries its first bytes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: status, the head with its line ends, and the body."""

    status: int
    head: bytes
    body: bytes

    @property
    def content_type(self) -> str:
        """The content type as sent, or an empty text."""
        found = TYPE.search(self.head)
        return found[1].decode("latin-1") if found else ""


class Replies:
    """The replies of one connection, in order; interim ones (100, 102, 103) are passed over."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._bytes = b""

    async def next(self, *, bodyless: bool = False) -> Reply | None:
        """Read a reply; None when the server has closed the connection in between.

        Raises UnreadableReplyError for anything else than a whole reply.
        """
        while True:
            while (end := self._bytes.find(b"\r\n\r\n")) < 0:
                if not await self._more():
                    if self._bytes:
                        raise UnreadableReplyError(self._bytes)
                    return None
            head, status, length = self._head(end + 4, bodyless=bodyless)
            if 100 <= status < 200 and status != 101:
                self._bytes = self._bytes[len(head) :]
                continue
            while len(self._bytes) < len(head) + length:
                if not await self._more():
                    raise UnreadableReplyError(self._bytes)
            body = self._bytes[len(head) : len(head) + length]
            self._bytes = self._bytes[len(head) + length :]
            return Reply(status, head, body)

    def _head(self, end: int, *, bodyless: bool) -> tuple[bytes, int, int]:
        head = self._bytes[:end]
        first = STATUS.match(head)
        if first is None:
            raise UnreadableReplyError(head)
        status = int(first[1])
        length = LENGTH.search(head)
        if bodyless or status in (204, 304) or status < 200:
            return head, status, 0
        if length is None:
            raise UnreadableReplyError(head)
        return head, status, int(length[1])

    async def _more(self) -> bool:
        try:
            block = await self._reader.read(BLOCK)
        except ConnectionError:
            block = b""
        self._bytes += block
        return bool(block)
