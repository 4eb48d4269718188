"""Slow clients (half a request, a byte at a time, nothing) while nodes call."""

import asyncio
import itertools
import time
from contextlib import suppress
from dataclasses import dataclass

from lab.chaos.access.nodes import Calling, Calls, Node
from tests.support import live_server, wire

WHOLE = wire.request_bytes(wire.SERVICE, "GET", {"X-Fill": "x" * 4000})


@dataclass
class Slow:
    """Calls of nodes, and the seconds that slow clients stayed connected, by kind."""

    timeout_s: float
    calls: Calls
    durations: dict[str, list[float]]

    def wrong(self) -> list[str]:
        """Return a description of each failure."""
        long = [
            f"a {kind} connection stayed open for {one:.1f} s"
            for kind, times in self.durations.items()
            for one in times
            if one > self.timeout_s + 0.5
        ]
        return self.calls.wrong() + long

    @property
    def sentence(self) -> str:
        """Return all figures in one line."""
        longest = ", ".join(
            f"{len(times)} {kind} (open {max(times):.1f} s at most)"
            for kind, times in self.durations.items()
        )
        return f"slow clients: {longest}; nodes: {self.calls.sentence}"


async def _half_sent(writer: asyncio.StreamWriter) -> None:
    writer.write(WHOLE[: len(WHOLE) // 2])
    await asyncio.sleep(3600)


async def _dripping(writer: asyncio.StreamWriter) -> None:
    for byte in WHOLE:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.25)


async def _silent(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


KINDS = {"half-sent": _half_sent, "dripping": _dripping, "silent": _silent}


async def _connection_duration(port: int, kind: str, number: int) -> float:
    """Return the seconds until the server closed a slow client's connection."""
    address = f"127.0.1.{number % 200 + 1}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    began = time.perf_counter()
    sending = asyncio.create_task(KINDS[kind](writer))
    with suppress(OSError):
        while await reader.read(1024):
            pass
    took = time.perf_counter() - began
    sending.cancel()
    with suppress(OSError, asyncio.CancelledError):
        await sending
    writer.close()
    return took


async def measure_slow_clients(
    server: live_server.Running, count: int, timeout_s: float, headers: dict[str, str]
) -> Slow:
    """Run ``count`` slow clients of all kinds until each is disconnected, and four nodes."""
    kinds = list(itertools.islice(itertools.cycle(KINDS), count))
    nodes = [Node(server.port, headers) for _ in range(4)]
    async with Calling(nodes) as calls:
        times = await asyncio.gather(
            *(_connection_duration(server.port, kind, number) for number, kind in enumerate(kinds))
        )
    durations: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for kind, took in zip(kinds, times, strict=True):
        durations[kind].append(took)
    return Slow(timeout_s, calls, durations)
