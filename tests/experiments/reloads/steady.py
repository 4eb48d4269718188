"""A steady load while something else happens, and what was wrong with the replies."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.experiments.chaos.load import Call, Connection
from tests.support import wire

CONNECTIONS = 16
PAUSE = 0.02
"""Seconds between a reply and the next call on the same connection."""
LIMIT = 5.0
"""Seconds that Infinity waits."""


@dataclass
class Heard:
    """The calls so far, and how long it took to make them."""

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
        return sum(call.seconds > LIMIT for call in self.calls)

    def within(self, share: float) -> float:
        """Milliseconds that this share of the calls did not exceed."""
        times = sorted(call.seconds for call in self.calls)
        return times[min(int(len(times) * share), len(times) - 1)] * 1000

    @property
    def summary(self) -> str:
        return (
            f"{len(self.calls):,} calls at {self.rate:.0f} a second: {len(self.failed)} failed, "
            f"{self.late} late, p50 {self.within(0.5):.1f} ms, p99 {self.within(0.99):.1f} ms, "
            f"longest {self.within(1.0):.0f} ms"
        )


@asynccontextmanager
async def asked(port: int) -> AsyncIterator[Heard]:
    """Ask all the time while inside."""
    heard = Heard()
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    async def ask() -> None:
        connection = Connection(port)
        while not over.is_set():
            target = f"{wire.SERVICE}?local_alias=room"
            heard.calls.append(await connection.ask("", target))
            await asyncio.sleep(PAUSE)
        connection.close()

    began = loop.time()
    asking = [asyncio.create_task(ask()) for _ in range(CONNECTIONS)]
    try:
        yield heard
    finally:
        over.set()
        await asyncio.gather(*asking)
        heard.seconds = loop.time() - began


def decision_of(call: Call) -> tuple[str, str]:
    """The id of a decision, and the name of the room in it, empty where there is none."""
    reply = json.loads(call.body)
    return reply["decision_id"], reply.get("result", {}).get("name", "")
