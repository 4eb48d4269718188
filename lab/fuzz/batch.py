"""Connections that send fuzz cases to one server and check for one reply per request."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field, replace

from lab.fuzz.grammar import Grammar
from lab.fuzz.replies import Replies, Reply, UnreadableReplyError
from lab.fuzz.requests import CLOSING, FuzzCase
from lab.fuzz.tally import Tally

PIPELINE_DEPTH = 8
CASES_PER_CONNECTION = 64
MAX_REFUSED = 50
EARLY_REPLY_S = 0.02
"""Seconds to wait for a reply to an incomplete request, which the server need not answer yet."""


@dataclass(slots=True)
class Sender:
    """Cases 0 to `count` of a grammar, sent to 127.0.0.1:`port` until `deadline` (monotonic).

    A complete request must be answered, or its connection closed, within `timeout_s` seconds.
    """

    grammar: Grammar
    port: int
    count: int
    deadline: float
    tally: Tally
    timeout_s: float = 10.0
    _next: int = 0
    again: deque[FuzzCase] = field(default_factory=deque)
    refused: int = 0

    async def send_all(self, connections: int) -> None:
        """Send all cases over `connections` connections at a time."""
        while self._next == 0 or self.again:
            async with asyncio.TaskGroup() as group:
                for number in range(connections):
                    group.create_task(self._run_connection(f"127.0.0.{2 + number % 100}"))
            if self._over():
                break

    def take(self) -> FuzzCase | None:
        if self._over():
            return None
        if self.again:
            return self.again.popleft()
        if self._next >= self.count:
            return None
        self._next += 1
        return self.grammar.case(self._next - 1)

    def _over(self) -> bool:
        return time.monotonic() > self.deadline or self.refused > MAX_REFUSED

    async def _run_connection(self, source: str) -> None:
        """Send over one connection after another. Each source address has its own ports."""
        while (case := self.take()) is not None:
            try:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.port, local_addr=(source, 0), limit=2**20
                )
            except OSError as error:
                self.refused += 1
                self.tally.finding("connection refused", case, str(error).encode())
                self.again.append(case)
                continue
            self.tally.connections += 1
            connection = Connection(self, Replies(reader), writer)
            try:
                await connection.run(case)
            finally:
                writer.transport.abort()


class Connection:
    """One connection: batches of clean cases, then a rough one or a request to close."""

    def __init__(self, sender: Sender, replies: Replies, writer: asyncio.StreamWriter) -> None:
        self.sender = sender
        self.tally = sender.tally
        self.replies = replies
        self.writer = writer
        self.last = FuzzCase(CLOSING, "closing")

    async def run(self, first: FuzzCase) -> None:
        """Send cases, beginning with `first`, until the connection ends."""
        case: FuzzCase | None = first
        for _ in range(CASES_PER_CONNECTION // PIPELINE_DEPTH):
            batch: list[FuzzCase] = []
            while case is not None and case.clean:
                batch.append(case)
                case = None
                # The reply to HEAD has a length and no body: nothing may follow it.
                if len(batch) < PIPELINE_DEPTH and not batch[-1].bodyless:
                    case = self.sender.take()
            if batch and not await self._clean(batch):
                if case is not None:
                    self.sender.again.append(case)
                return
            if case is not None:
                await self._rough(case)
                return
            case = self.sender.take()
            if case is None:
                break
        if case is not None:
            self.sender.again.append(case)
        await self._close()

    async def _clean(self, batch: list[FuzzCase]) -> bool:
        """Send a batch; return false if the connection has ended."""
        self.writer.write(b"".join(case.wire for case in batch))
        for at, case in enumerate(batch):
            reply = await self._reply(case)
            self.tally.finish(case, closed=reply is None)
            if reply is None:
                self.sender.again.extend(batch[at + 1 :])
                return False
            self.last = case
        return True

    async def _reply(self, case: FuzzCase, *, owed: bool = True) -> Reply | None:
        """Read and check the next reply; return None if there is none."""
        try:
            async with asyncio.timeout(self.sender.timeout_s if owed else EARLY_REPLY_S):
                reply = await self.replies.next(bodyless=case.bodyless)
        except TimeoutError:
            if owed:
                self.tally.finding("neither a reply nor a closed connection", case)
            return None
        except UnreadableReplyError as error:
            self.tally.finding("unreadable reply", case, error.args[0])
            return None
        if reply is not None:
            self.tally.answered(case, reply)
        return reply

    async def _rough(self, case: FuzzCase) -> None:
        """Send a rough case, and check the number of replies."""
        self.writer.write(case.wire)
        reply = await self._reply(case, owed=not case.waits)
        seen = int(reply is not None)
        self.tally.finish(case, closed=not seen)
        allowed = case.replies - seen
        if seen or not case.waits:
            self._write(CLOSING)
            allowed += 1
        if case.waits:
            # The server may read what follows as the rest of the case, so wait only briefly.
            allowed = await self._drain(case, allowed, owed=False)
            self._half_close()
        await self._drain(case, allowed)

    async def _close(self) -> None:
        """Ask the server to close; exactly one more reply may come."""
        self._write(CLOSING)
        await self._drain(self.last, 1)

    def _write(self, wire: bytes) -> None:
        if not self.writer.transport.is_closing():
            self.writer.write(wire)

    def _half_close(self) -> None:
        try:
            self.writer.write_eof()
        except OSError:
            return

    async def _drain(self, case: FuzzCase, allowed: int, *, owed: bool = True) -> int:
        """Read to the end of the connection, and return how many replies are still allowed."""
        later = replace(case, endpoint="", bodyless=False)
        while (reply := await self._reply(later, owed=owed)) is not None:
            allowed -= 1
            if allowed < 0:
                self.tally.finding("more replies than requests", case, reply.head + reply.body)
                break
        return allowed
