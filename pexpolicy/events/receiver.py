"""The receiver of event sinks: reads a message while it arrives, and has its events stored."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import ClientError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from pexpolicy.background.shared_state import SetupError, SharedUnavailableError
from pexpolicy.config.schema.server import EventsTable
from pexpolicy.events.inbox import EventInbox, QueueFullError
from pexpolicy.events.message import NOT_JSON, QUEUE_FULL, TOO_LONG, MessageParser, NotJsonError
from pexpolicy.models.event import STALE

PATH = "/events/v1"
"""The path below ``base_path``."""
PIECE = 8 << 10
"""Bytes that are parsed before other work of the event loop goes on."""
MAX_BATCH = 300
"""Events of a message that are stored at once."""
BODY_TIMEOUT_S = 60.0
"""Seconds for a message to arrive and to be stored; a node waits for 7 by default."""
DISCARD_S = 1.0
"""Seconds to read the body of a refused message, so that the client gets to the reply."""
REFUSED_FACTOR = 10
"""A body of more than ``max_body_mb`` times this is refused."""


class EventReceiver:
    """Receives messages; ``remarks`` counts what is wrong with them, by reason."""

    def __init__(self, inbox: EventInbox, clock: Callable[[], float] = time.time) -> None:
        self.remarks: Counter[str] = Counter()
        self._inbox = inbox
        self._clock = clock

    def take_remarks(self) -> Counter[str]:
        """Return the remarks since the last call."""
        remarks, self.remarks = self.remarks, Counter()
        return remarks

    async def receive(self, request: web.BaseRequest, source: str, table: EventsTable) -> int:
        """Store the events of a message; return the status of the reply."""
        max_bytes = table.max_body_mb << 20
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
        if encoding not in ("", "identity"):
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        if (request.content_length or 0) > max_bytes * REFUSED_FACTOR:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._read(request, source, max_bytes)
        except (NotJsonError, ClientError, HttpProcessingError):
            self.remarks[NOT_JSON] += 1
            return HTTPStatus.BAD_REQUEST
        except (QueueFullError, SharedUnavailableError, SetupError):
            self.remarks[QUEUE_FULL] += 1
            return HTTPStatus.SERVICE_UNAVAILABLE
        except TimeoutError:
            return HTTPStatus.REQUEST_TIMEOUT

    async def _read(self, request: web.BaseRequest, source: str, max_bytes: int) -> int:
        now, size, waiting = self._clock(), 0, list[str]()
        parser = MessageParser(now)
        is_dropped = (request.content_length or 0) > max_bytes
        try:
            accept_body(request)
            while read := await request.content.readany():
                size += len(read)
                if size > max_bytes * REFUSED_FACTOR:
                    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                is_dropped = is_dropped or size > max_bytes
                for at in range(0, 0 if is_dropped else len(read), PIECE):
                    waiting += parser.feed(read[at : at + PIECE])
                    if len(waiting) >= MAX_BATCH:
                        await self._inbox.put(source, waiting)
                        waiting = []
                    elif len(read) > PIECE:
                        await asyncio.sleep(0)
            if not is_dropped:
                waiting += parser.feed(b"", is_last=True)
        finally:
            self.remarks += parser.counts
        if is_dropped or parser.is_unusable:
            self.remarks[TOO_LONG] += is_dropped
            envelope = {"node": "", "seq": 0, "version": 2, "time": now, "event": STALE}
            data = {"why": "a message was too long"}
            waiting.append(msgspec.json.encode({**envelope, "data": data}).decode())
        if waiting:
            await self._inbox.put(source, waiting)
        return HTTPStatus.OK


def accept_body(request: web.BaseRequest) -> None:
    """Start reading the body of a request."""
    protocol: Any = request.protocol
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and protocol.transport:
        protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    protocol.accept_body()


def is_whole(request: web.BaseRequest) -> bool:
    """Return whether the connection can be used for another request."""
    return request.content.at_eof() and not request.protocol.body_left  # type: ignore[attr-defined]


async def discard(request: web.BaseRequest) -> None:
    """Read the rest of a body, for a limited time."""
    with suppress(TimeoutError, ConnectionError, ClientError):
        async with asyncio.timeout(DISCARD_S):
            request.protocol.accept_body()  # type: ignore[attr-defined]
            while not request.content.at_eof():
                await request.content.readany()
