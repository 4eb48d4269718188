"""Many connections that shoot at one server and hold it to one reply for one request."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field, replace

from tests.experiments.fuzz.grammar import Grammar
from tests.experiments.fuzz.replies import Replies, Reply, UnreadableReplyError
from tests.experiments.fuzz.requests import CLOSING, Shot
from tests.experiments.fuzz.tally import Tally

DEPTH = 8
LIFE = 64
MAX_REFUSED = 50
PAUSE = 0.02
"""Seconds to look out for a reply to something that a server may rightly wait to see more of."""


@dataclass(slots=True)
class Volley:
    """Shots 0 to `count` of a grammar, fired at 127.0.0.1:`port` until `deadline` (monotonic).

    `patience` is the time in seconds in which a complete request must be answered or its connection
    closed.
    """

    grammar: Grammar
    port: int
    count: int
    deadline: float
    tally: Tally
    patience: float = 10.0
    _next: int = 0
    again: deque[Shot] = field(default_factory=deque)
    refused: int = 0

    async def fire(self, connections: int) -> None:
        """Fire everything over so many connections at a time."""
        while self._next == 0 or self.again:
            async with asyncio.TaskGroup() as group:
                for number in range(connections):
                    group.create_task(self._gun(f"127.0.0.{2 + number % 100}"))
            if self._over():
                break

    def take(self) -> Shot | None:
        if self._over():
            return None
        if self.again:
            return self.again.popleft()
        if self._next >= self.count:
            return None
        self._next += 1
        return self.grammar.shot(self._next - 1)

    def _over(self) -> bool:
        return time.monotonic() > self.deadline or self.refused > MAX_REFUSED

    async def _gun(self, source: str) -> None:
        """Fire over one connection after another. Each source address has ports of its own."""
        while (shot := self.take()) is not None:
            try:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.port, local_addr=(source, 0), limit=2**20
                )
            except OSError as error:
                self.refused += 1
                self.tally.finding("connection refused", shot, str(error).encode())
                self.again.append(shot)
                continue
            self.tally.connections += 1
            barrel = Barrel(self, Replies(reader), writer)
            try:
                await barrel.live(shot)
            finally:
                writer.transport.abort()


class Barrel:
    """One connection: batches of clean shots, then a rough one or a request to close."""

    def __init__(self, volley: Volley, replies: Replies, writer: asyncio.StreamWriter) -> None:
        self.volley = volley
        self.tally = volley.tally
        self.replies = replies
        self.writer = writer
        self.last = Shot(CLOSING, "closing")

    async def live(self, first: Shot) -> None:
        """Fire from the first shot on until the connection ends."""
        shot: Shot | None = first
        for _ in range(LIFE // DEPTH):
            batch: list[Shot] = []
            while shot is not None and shot.clean:
                batch.append(shot)
                shot = None
                # The reply to HEAD has a length and no body: nothing may come behind it.
                if len(batch) < DEPTH and not batch[-1].bodyless:
                    shot = self.volley.take()
            if batch and not await self._clean(batch):
                if shot is not None:
                    self.volley.again.append(shot)
                return
            if shot is not None:
                await self._rough(shot)
                return
            shot = self.volley.take()
            if shot is None:
                break
        if shot is not None:
            self.volley.again.append(shot)
        await self._close()

    async def _clean(self, batch: list[Shot]) -> bool:
        """Fire a batch; false when the connection has ended."""
        self.writer.write(b"".join(shot.wire for shot in batch))
        for at, shot in enumerate(batch):
            reply = await self._reply(shot)
            self.tally.concluded(shot, closed=reply is None)
            if reply is None:
                self.volley.again.extend(batch[at + 1 :])
                return False
            self.last = shot
        return True

    async def _reply(self, shot: Shot, *, owed: bool = True) -> Reply | None:
        """The next reply, judged; None when there is none, be it rightly so or not."""
        try:
            async with asyncio.timeout(self.volley.patience if owed else PAUSE):
                reply = await self.replies.next(bodyless=shot.bodyless)
        except TimeoutError:
            if owed:
                self.tally.finding("neither a reply nor a closed connection", shot)
            return None
        except UnreadableReplyError as error:
            self.tally.finding("unreadable reply", shot, error.args[0])
            return None
        if reply is not None:
            self.tally.answered(shot, reply)
        return reply

    async def _rough(self, shot: Shot) -> None:
        """Fire a rough shot, and see that it brings no more replies than it may."""
        self.writer.write(shot.wire)
        reply = await self._reply(shot, owed=not shot.waits)
        seen = int(reply is not None)
        self.tally.concluded(shot, closed=not seen)
        allowed = shot.replies - seen
        if seen or not shot.waits:
            self._write(CLOSING)
            allowed += 1
        if shot.waits:
            # The server may take what follows for the rest of the shot: give it a moment only.
            allowed = await self._drain(shot, allowed, owed=False)
            self._half_close()
        await self._drain(shot, allowed)

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

    async def _drain(self, shot: Shot, allowed: int, *, owed: bool = True) -> int:
        """Read to the end of the connection, and return how many replies are still allowed."""
        later = replace(shot, endpoint="", bodyless=False)
        while (reply := await self._reply(later, owed=owed)) is not None:
            allowed -= 1
            if allowed < 0:
                self.tally.finding("more replies than requests", shot, reply.head + reply.body)
                break
        return allowed
