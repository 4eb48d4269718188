"""The refusal of a connection for its first data, before it has a protocol.

Creating a transport, a protocol and a task for it, and parsing the request, costs several times as
much as the reply: clients without credentials could take the time of the nodes' calls.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus

from pexpolicy.access.connections import Connection
from pexpolicy.access.refusals import BODY, TOO_LARGE, RefusalLog
from pexpolicy.server.http.request_parser import MAX_HEADERS
from pexpolicy.server.http.response import empty_reply

Refuse = Callable[[Connection, socket.socket], None]
"""Replies to a connection and closes it."""

DRAIN_BYTES = 65536
"""Bytes that are read before a connection is closed: unread ones would make the kernel discard the
reply.
"""
_REQUEST_LINE = re.compile(rb"[A-Z]+ [!-~]+ HTTP/1\.[01]\r\n")
_ABOUT_BODY = re.compile(rb"\r\n(content-length|transfer-encoding):([^\r]*)", re.IGNORECASE)


def refuse_nothing(data: bytes) -> None:
    """Leave all first data to the protocol: with TLS they are no request."""


class EarlyRefusal:
    """Refuses requests with a body, and heads of more than ``header_bytes``."""

    def __init__(self, refusals: RefusalLog, header_bytes: int) -> None:
        self._refusals = refusals
        self._header_bytes = header_bytes
        self._refuse_body = partial(self._refuse, BODY, HTTPStatus.BAD_REQUEST)
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._refuse_head = partial(self._refuse, TOO_LARGE, status)

    def find(self, data: bytes) -> Refuse | None:
        """Return what refuses a connection with this first data; ``None`` if nothing here does.

        The parser refuses each such request with the same status. Other faults are left to it.
        """
        if _REQUEST_LINE.match(data) is None:
            return None
        size = data.find(b"\r\n\r\n") + 2
        if size < len(b"\r\n\r\n"):
            return self._refuse_head if len(data) > self._header_bytes else None
        head = data[:size]
        if (
            size <= self._header_bytes
            and _announces_body(_ABOUT_BODY.findall(head))
            and head.count(b"\n") <= MAX_HEADERS + 1
        ):
            return self._refuse_body
        return None

    def _refuse(
        self, reason: str, status: int, connection: Connection, accepted: socket.socket
    ) -> None:
        with suppress(OSError):
            # A head that is only a little too large is more than that.
            if len(accepted.recv(DRAIN_BYTES)) == DRAIN_BYTES and reason == TOO_LARGE:
                accepted.recv(DRAIN_BYTES)
            accepted.send(empty_reply(status))
        accepted.close()
        connection.ended()
        self._refusals.note(reason, status, connection.peer)


def _announces_body(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether these headers, names and values, are a single one that announces a body."""
    if len(headers) != 1:
        return False
    name, value = headers[0][0].lower(), headers[0][1].strip()
    if name == b"transfer-encoding":
        return value.lower() == b"chunked"
    return value.isdigit() and value.strip(b"0") != b""
