"""The receiver of event sinks: reads a message while it arrives, and stores its events.

The inbox is in the shared state, and the processes of all servers fill it.
"""

# ruff: noqa: S608 - the statements are made of constants

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

import msgspec
from aiohttp import ClientError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from uuid_utils import uuid7

from pexpolicy.background.shared import SharedTables
from pexpolicy.background.shared_state import SharedState, SharedUnavailableError
from pexpolicy.config.schema.server import EventsTable
from pexpolicy.events.message import NOT_JSON, QUEUE_FULL, TOO_LONG, MessageParser, NotJsonError
from pexpolicy.models.event import STALE
from pexpolicy.tasks import start_background

PATH = "/events/v1"
"""The path below ``base_path``."""
PIECE = 2 << 10
"""Bytes that are parsed before other work of the event loop goes on."""
MAX_BATCH = 300
"""Events of a message that are stored at once."""
BODY_TIMEOUT_S = 60.0
"""Seconds for a message to arrive and to be stored; a node waits for 7 by default."""
DISCARD_S = 1.0
"""Seconds to read the body of a refused message, so that the client gets to the reply."""
REFUSED_FACTOR = 10
"""A body of more than ``max_body_mb`` times this is refused."""
MAX_WAITING = 250_000
"""Events in the inbox; further ones are answered with 503."""
MAX_ROWS = 300
"""Events that one transaction stores: others wait for the database meanwhile."""
COUNT_S = 1.0
TIMEOUT_S = 5.0
INBOX = "pexpolicy_events_inbox"
_CREATE = f"""CREATE TABLE IF NOT EXISTS {INBOX} (id $text PRIMARY KEY, source $text,
received double precision NOT NULL, content $text NOT NULL)"""
_INSERT = f"INSERT INTO {INBOX} (id, source, received, content) VALUES ($1, $2, $now, $3)"


class Inbox(SharedTables):
    """The events of all sources that were not given to plugins yet."""

    def __init__(self) -> None:
        super().__init__("events", [_CREATE], TIMEOUT_S)

    async def put(self, events: Sequence[tuple[str, str]]) -> None:
        """Store events, JSON with all keys of an envelope, each after its source.

        Raises ``SharedUnavailableError``.
        """
        rows = [(str(uuid7()), *event) for event in events]
        for at in range(0, len(rows), MAX_ROWS):
            await self.write((_INSERT, rows[at : at + MAX_ROWS]))


class EventReceiver:
    """Receives messages, and stores their events in ``[shared]``.

    ``state`` returns the shared state of the active policy.
    """

    def __init__(
        self, state: Callable[[], SharedState | None], clock: Callable[[], float] = time.time
    ) -> None:
        self.remarks: Counter[str] = Counter()
        """What is wrong with messages, by reason."""
        self.waiting = 0
        """Events in the inbox when that was last counted."""
        self.arrived = asyncio.Event()
        self._state = state
        self._clock = clock
        self._tables = Inbox()
        self._queue: list[tuple[str, str]] = []
        self._next: asyncio.Task[None] | None = None
        """Will store the queue, once the transaction before has ended."""
        self._turn, self._parsing = asyncio.Lock(), asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._counted_at = -COUNT_S

    @property
    def tables(self) -> Inbox:
        """The tables; raises ``SharedUnavailableError`` while no policy serves."""
        if (state := self._state()) is None:
            raise SharedUnavailableError("shared state is not open")
        self._tables.bind("server", state)
        return self._tables

    async def put(self, source: str, events: Sequence[str]) -> None:
        """Store events; raises ``SharedUnavailableError``, also while too many wait.

        All that wait are stored in one transaction.
        """
        await self.count()
        if self.waiting >= MAX_WAITING:
            raise SharedUnavailableError("too many events wait")
        self._queue += [(source, event) for event in events]
        if self._next is None:
            self._next = start_background(self._store(), self._tasks)
        await asyncio.shield(self._next)

    async def _store(self) -> None:
        async with self._turn:
            events, self._queue, self._next = self._queue, [], None
            await self.tables.put(events)
            self.arrived.set()

    async def count(self, age: float = COUNT_S) -> None:
        """Count what is in the inbox, unless that was done less than ``age`` seconds ago."""
        now = time.monotonic()
        if now - self._counted_at >= age:
            self._counted_at = now
            self.waiting = int((await self.tables.read(f"SELECT count(*) FROM {INBOX}"))[0][0])

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
        except (NotJsonError, ClientError, ConnectionError, HttpProcessingError):
            self.remarks[NOT_JSON] += 1
            return HTTPStatus.BAD_REQUEST
        except SharedUnavailableError:
            self.remarks[QUEUE_FULL] += 1
            return HTTPStatus.SERVICE_UNAVAILABLE
        except TimeoutError:
            return HTTPStatus.REQUEST_TIMEOUT

    async def _read(self, request: web.BaseRequest, source: str, max_bytes: int) -> int:
        now, size, waiting = self._clock(), 0, list[str]()
        parser, protocol = MessageParser(now), cast("Any", request.protocol)
        is_dropped = (request.content_length or 0) > max_bytes
        try:
            if (
                request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
                and protocol.transport
            ):
                protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            protocol.accept_body()
            while read := await request.content.readany():
                size += len(read)
                if size > max_bytes * REFUSED_FACTOR:
                    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                is_dropped = is_dropped or size > max_bytes
                for at in range(0, 0 if is_dropped else len(read), PIECE):
                    waiting = await self._parse(parser.feed(read[at : at + PIECE]), source, waiting)
                    # It may be closed for others, as connections with half of a request are.
                    protocol.connection.received(parser.stored, is_new=not at)
            if not is_dropped:
                waiting = await self._parse(parser.feed(b"", is_last=True), source, waiting)
        finally:
            protocol.connection.received(len(protocol.received))
            self.remarks += parser.counts
        if is_dropped or parser.is_unusable:
            self.remarks[TOO_LONG] += is_dropped
            envelope = {"node": "", "seq": 0, "version": 2, "time": now, "event": STALE}
            data = {"why": "a message was too long"}
            waiting.append(msgspec.json.encode({**envelope, "data": data}).decode())
        if waiting:
            await self.put(source, waiting)
        return HTTPStatus.OK

    async def _parse(
        self, events: Iterator[str | None], source: str, waiting: list[str]
    ) -> list[str]:
        """Store events in batches, and return those that wait.

        One message at a time is parsed, and other work of the event loop goes on between batches.
        """
        async with self._parsing:
            for number, event in enumerate(events, 1):
                if event is not None:
                    waiting.append(event)
                if len(waiting) >= MAX_BATCH:
                    await self.put(source, waiting)
                    waiting = []
                elif number % MAX_BATCH == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
        return waiting


async def discard(request: web.BaseRequest) -> bool:
    """Read the rest of a body, for a limited time; return whether the connection can go on."""
    protocol: Any = request.protocol
    with suppress(TimeoutError, ConnectionError, ClientError):
        async with asyncio.timeout(DISCARD_S):
            if not request.content.at_eof() or protocol.body_left:
                protocol.accept_body()
            while not request.content.at_eof():
                await request.content.readany()
    return request.content.at_eof() and not protocol.body_left
