"""Load: keep-alive connections with one call at a time each."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support import wire

CALL_TIMEOUT_S = 8.0
"""Seconds until a call counts as unanswered."""
LATE_S = 5.0
"""Seconds that Infinity waits."""
ROOM = (f"{wire.SERVICE}?local_alias=room",)


@dataclass(frozen=True)
class Call:
    """One call: its status (0 without a reply), body, and duration in seconds."""

    status: int
    body: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_late(self) -> bool:
        return self.seconds > LATE_S


class Connection:
    """A connection that is reopened after the server has closed it."""

    def __init__(
        self, port: int, headers: Mapping[str, str] | None = None, **connecting: Any
    ) -> None:
        self._port = port
        self._headers = {"Connection": "keep-alive", **(headers or {})}
        self.connecting = connecting
        """Options of new connections."""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, target: str, method: str = "GET", body: bytes = b"") -> Call:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                status, text = await self._exchange(target, method, body)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            status, text = 0, type(error).__name__
        return Call(status, text, time.perf_counter() - began)

    async def _exchange(self, target: str, method: str, content: bytes) -> tuple[int, str]:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self._port, **self.connecting
            )
        reader, writer = self._streams
        headers = {**self._headers, **({"Content-Length": str(len(content))} if content else {})}
        writer.write(wire.request_bytes(target, method, headers) + content)
        reply = wire.parse(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(int(reply.headers.get("content-length", "0")))
        if reply.headers.get("connection") == "close":
            self.close()
        return reply.status, body.decode()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Load:
    """The calls so far."""

    calls: list[Call] = field(default_factory=list)

    @property
    def answered(self) -> list[Call]:
        return [call for call in self.calls if call.status == 200]

    @property
    def ids(self) -> list[str]:
        """The decisions that were answered."""
        return [call.json["decision_id"] for call in self.answered]

    @property
    def failed(self) -> int:
        return len(self.calls) - len(self.answered)

    @property
    def longest(self) -> float:
        return max((call.seconds for call in self.answered), default=0.0)

    @property
    def late(self) -> int:
        return sum(call.is_late for call in self.calls)

    def percentile(self, share: float) -> float:
        """Return the seconds that this share of the answered calls did not exceed."""
        times = sorted(call.seconds for call in self.answered)
        return times[int(len(times) * share)] if times else 0.0

    @property
    def summary(self) -> str:
        p50, p99 = (1000 * self.percentile(share) for share in (0.5, 0.99))
        return (
            f"{self.failed} failed, {self.late} late, p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
            f"longest {1000 * self.longest:.0f} ms"
        )


@asynccontextmanager
async def load(
    port: int,
    connections: int = 16,
    pause: float = 0.02,
    targets: Sequence[str] = ROOM,
    *,
    goes_on: bool = True,
) -> AsyncIterator[Load]:
    """Call on a number of connections while the block runs, with a pause after each reply.

    Unless it ``goes_on``, a connection on which a call failed is the end of its calls.
    """
    made, over = Load(), asyncio.Event()

    async def ask() -> None:
        connection = Connection(port)
        for number in itertools.count():
            if over.is_set():
                break
            made.calls.append(await connection.ask(targets[number % len(targets)]))
            if not (made.calls[-1].status or goes_on):
                break
            await asyncio.sleep(pause)
        connection.close()

    asking = [asyncio.create_task(ask()) for _ in range(connections)]
    try:
        yield made
    finally:
        over.set()
        await asyncio.gather(*asking)
