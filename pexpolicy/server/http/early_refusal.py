"""The refusal of a connection whose first request has a body, before it has a protocol.

Creating a transport, a protocol and a task for it, and parsing the request, costs several times as
much as the reply: clients without credentials could take the time of the nodes' calls.
"""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from http import HTTPStatus

from pexpolicy.access.connections import Connection
from pexpolicy.access.refusals import BODY, RefusalLog
from pexpolicy.server.http.request_parser import MAX_HEADERS
from pexpolicy.server.http.response import empty_reply

DRAIN_BYTES = 65536
"""Bytes that are read before a connection is closed: unread ones would make the kernel discard the
reply.
"""
_REQUEST_LINE = re.compile(rb"[A-Z]+ [!-~]+ HTTP/1\.[01]\r\n")
_ABOUT_BODY = re.compile(rb"\r\n(content-length|transfer-encoding):([^\r]*)", re.IGNORECASE)


class EarlyRefusal:
    """Answers 400 to requests with a body; ``header_bytes`` is the maximum size of a head."""

    def __init__(self, refusals: RefusalLog, header_bytes: int) -> None:
        self._refusals = refusals
        self._header_bytes = header_bytes

    def applies(self, data: bytes) -> bool:
        """Return whether the first data of a connection has a whole head, and a body follows.

        The parser refuses each such request with the same status. A head with another fault is left
        to it.
        """
        size = data.find(b"\r\n\r\n") + 2
        if size < len(b"\r\n\r\n") or size > self._header_bytes:
            return False
        head = data[:size]
        return (
            _announces_body(_ABOUT_BODY.findall(head))
            and _REQUEST_LINE.match(head) is not None
            and head.count(b"\n") <= MAX_HEADERS + 1
        )

    def __call__(self, connection: Connection, accepted: socket.socket) -> None:
        """Reply, close the connection and log the refusal."""
        with suppress(OSError):
            accepted.recv(DRAIN_BYTES)
            accepted.send(empty_reply(HTTPStatus.BAD_REQUEST))
        accepted.close()
        connection.ended()
        self._refusals.note(BODY, HTTPStatus.BAD_REQUEST, connection.peer)


def _announces_body(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether these headers, names and values, are a single one that announces a body."""
    if len(headers) != 1:
        return False
    name, value = headers[0][0].lower(), headers[0][1].strip()
    if name == b"transfer-encoding":
        return value.lower() == b"chunked"
    return value.isdigit() and value.strip(b"0") != b""
