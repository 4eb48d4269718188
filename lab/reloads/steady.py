"""A steady load in the background, and its failed and late replies."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from lab.load import Call, Connection
from tests.support import wire

CONNECTIONS = 16
CALL_PAUSE_S = 0.02
"""Seconds between a reply and the next call on the same connection."""
CALL_TIMEOUT_S = 5.0
"""Seconds that Infinity waits."""


@dataclass
class LoadResult:
    """The calls so far, and their total duration."""

    calls: list[Call] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.calls) / self.seconds

    @property
    def failed(self) -> list[Call]:
        return [call for call in self.calls if call.status != 200]

    @property
    def late(self) -> int:
        return sum(call.seconds > CALL_TIMEOUT_S for call in self.calls)

    def percentile(self, share: float) -> float:
        """Return the milliseconds that this share of the calls did not exceed."""
        times = sorted(call.seconds for call in self.calls)
        return times[min(int(len(times) * share), len(times) - 1)] * 1000

    @property
    def summary(self) -> str:
        return (
            f"{len(self.calls):,} calls at {self.rate:.0f} a second: {len(self.failed)} failed, "
            f"{self.late} late, p50 {self.percentile(0.5):.1f} ms, "
            f"p99 {self.percentile(0.99):.1f} ms, longest {self.percentile(1.0):.0f} ms"
        )


@asynccontextmanager
async def steady_load(port: int) -> AsyncIterator[LoadResult]:
    """Send calls while the context is open."""
    load = LoadResult()
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    async def ask() -> None:
        connection = Connection(port)
        while not over.is_set():
            target = f"{wire.SERVICE}?local_alias=room"
            load.calls.append(await connection.ask("", target))
            await asyncio.sleep(CALL_PAUSE_S)
        connection.close()

    began = loop.time()
    asking = [asyncio.create_task(ask()) for _ in range(CONNECTIONS)]
    try:
        yield load
    finally:
        over.set()
        await asyncio.gather(*asking)
        load.seconds = loop.time() - began


def decision_of(call: Call) -> tuple[str, str]:
    """Return the id of a decision and the name of its room, empty if there is none."""
    reply = json.loads(call.body)
    return reply["decision_id"], reply.get("result", {}).get("name", "")
