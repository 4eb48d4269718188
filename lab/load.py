"""Load from a separate process: keep-alive connections with one call at a time each.

`python -m lab.load PORT SECONDS NEEDING OTHERS PAUSE` prints the calls as JSON.
"""

import asyncio
import itertools
import json
import sys
import time
from dataclasses import asdict, dataclass

from tests.support import wire

CALL_TIMEOUT_S = 8.0
"""Seconds until a call counts as unanswered."""
NEEDS = "service_configuration needs"
"""The calls that the misbehaving plugin gets."""
TARGETS = {
    "service_configuration ready": f"{wire.SERVICE}?local_alias=ready",
    "participant_properties": f"{wire.PARTICIPANT}?service_tag=good",
    "media_location": f"{wire.LOCATION}?service_tag=good",
    "registration_alias": f"{wire.REGISTRATION}alice%40example.com",
}


@dataclass(frozen=True)
class Call:
    """One call: its kind, status (0 without a reply), body, and duration in seconds."""

    kind: str
    status: int
    body: str
    seconds: float


class Connection:
    """A connection that is reopened after the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, kind: str, target: str) -> Call:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                status, body = await self._exchange(target)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            status, body = 0, type(error).__name__
        return Call(kind, status, body, time.perf_counter() - began)

    async def _exchange(self, target: str) -> tuple[int, str]:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(wire.request_bytes(target, "GET", {"Connection": "keep-alive"}))
        head = await reader.readuntil(b"\r\n\r\n")
        reply = wire.parse(head)
        body = await reader.readexactly(int(reply.headers.get("content-length", "0")))
        if reply.headers.get("connection") == "close":
            self.close()
        return reply.status, body.decode()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _needing(port: int, ends: float, pause: float, calls: list[Call]) -> None:
    connection = Connection(port)
    while time.perf_counter() < ends:
        calls.append(await connection.ask(NEEDS, f"{wire.SERVICE}?local_alias=needs"))
        await asyncio.sleep(pause)
    connection.close()


async def _others(port: int, ends: float, pause: float, calls: list[Call], first: int) -> None:
    connection = Connection(port)
    for kind, target in itertools.islice(itertools.cycle(TARGETS.items()), first, None):
        if time.perf_counter() > ends:
            break
        calls.append(await connection.ask(kind, target))
        await asyncio.sleep(pause)
    connection.close()


async def load(port: int, seconds: float, needing: int, others: int, pause: float) -> list[Call]:
    """Call for ``seconds`` on both kinds of connections, and pause after each reply."""
    ends = time.perf_counter() + seconds
    calls: list[Call] = []
    await asyncio.gather(
        *(_needing(port, ends, pause, calls) for _ in range(needing)),
        *(_others(port, ends, pause, calls, number) for number in range(others)),
    )
    return calls


def main() -> None:
    """Run the load that the arguments describe."""
    port, seconds, needing, others, pause = sys.argv[1:]
    calls = asyncio.run(load(int(port), float(seconds), int(needing), int(others), float(pause)))
    json.dump([asdict(call) for call in calls], sys.stdout)


if __name__ == "__main__":
    main()
