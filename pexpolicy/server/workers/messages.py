"""Messages between the supervisor and its workers, over one socket per worker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

import msgspec

from pexpolicy.observability.snapshot import Snapshot
from pexpolicy.server.reload.result import ReloadResult, readable

LENGTH_BYTES = 8
"""Size of the length that precedes each message."""


class Prepare(msgspec.Struct, tag=True, frozen=True):
    """To a worker: build and open the generation of this content of the configuration file."""

    content: bytes


class Commit(msgspec.Struct, tag=True, frozen=True):
    """To a worker: activate the prepared generation."""


class Abandon(msgspec.Struct, tag=True, frozen=True):
    """To a worker: close the prepared generation."""


class Refresh(msgspec.Struct, tag=True, frozen=True):
    """To a worker: report the metrics now."""


class Merged(msgspec.Struct, tag=True, frozen=True):
    """To a worker that is scraped: the metrics of all workers."""

    snapshot: Snapshot


class Alive(msgspec.Struct, tag=True, frozen=True):
    """From a worker: its event loop is running, and what it has counted."""

    snapshot: Snapshot | None = None
    is_refreshed: bool = False
    """True for the report that ``Refresh`` asked for."""


class Scrape(msgspec.Struct, tag=True, frozen=True):
    """From a worker that is scraped: what it has counted. ``Merged`` is the answer."""

    snapshot: Snapshot


class Serving(msgspec.Struct, tag=True, frozen=True):
    """From a worker: it answers calls. ``files`` are those of its configuration."""

    announcement: str
    config_hash: str
    files: tuple[str, ...]


class Prepared(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the generation is open and not active yet."""

    config_hash: str


class Refused(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the configuration cannot be used."""

    problems: tuple[str, ...]
    temporary: bool = False
    """True if a lifespan failed, so another attempt may succeed."""
    files: tuple[str, ...] = ()
    """The files that were read."""


class Committed(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the prepared generation is active."""

    result: ReloadResult


ReloadOrder = Prepare | Commit | Abandon
Order = ReloadOrder | Refresh | Merged
Report = Alive | Scrape | Serving | Prepared | Refused | Committed

M = TypeVar("M")
_encode = msgspec.msgpack.Encoder().encode
ORDERS: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
REPORTS: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


def framed(message: Order | Report) -> bytes:
    """Encode a message with its length prefix."""
    try:
        content = _encode(message)
    except UnicodeEncodeError:
        content = _encode(readable(msgspec.to_builtins(message)))
    return len(content).to_bytes(LENGTH_BYTES, "big") + content


async def next_message(
    reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[M]
) -> M | None:
    """Read the next message; return ``None`` if the connection is closed or the data invalid."""
    try:
        length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
        return decoder.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, OSError, msgspec.MsgspecError):
        return None


class WorkerConnection:
    """The supervisor's end of the socket to one worker.

    ``on_report`` is called with each report. ``config_hash`` is that of the active configuration of
    the worker, empty before it answers calls.
    """

    def __init__(self, end: socket.socket, on_report: Callable[[Report], None]) -> None:
        self._end = end
        self._on_report = on_report
        self._writer: asyncio.StreamWriter | None = None
        self._answer: asyncio.Future[Report | None] | None = None
        self.config_hash = ""

    async def listen(self) -> None:
        """Read the reports of the worker until it ends."""
        reader, self._writer = await asyncio.open_connection(sock=self._end)
        try:
            while (report := await next_message(reader, REPORTS)) is not None:
                self._on_message(report)
        finally:
            self._writer.transport.abort()
            self._writer = None
            self.config_hash = ""
            self._reply(None)

    async def ask(self, order: Order) -> Report | None:
        """Send an order and return its report; ``None`` if the worker has ended."""
        if self._writer is None:
            return None
        self._answer = asyncio.get_running_loop().create_future()
        self.send(order)
        return await self._answer

    def send(self, order: Order) -> None:
        """Send an order that has no report."""
        if self._writer is not None:
            self._writer.write(framed(order))

    def close(self) -> None:
        """Close the copy of the socket in a forked process."""
        self._end.close()

    def _on_message(self, report: Report) -> None:
        if isinstance(report, Serving):
            self.config_hash = report.config_hash
        elif isinstance(report, Committed):
            self.config_hash = report.result.config_hash
        self._on_report(report)
        if not isinstance(report, Alive | Scrape | Serving):
            self._reply(report)

    def _reply(self, report: Report | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(report)
