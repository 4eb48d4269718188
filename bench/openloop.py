"""``python -m bench.openloop PORT CALLS RATE SECONDS CONNECTIONS``: the client at a steady rate.

Prints the percentiles of the time from when a call was due to its whole reply, as JSON. CALLS is
the file that ``wrk.lua`` reads. A reply without 200 ends it with status 1.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import cast

from bench.bare import new_loop

TIMER_LATENESS_S = 0.002
"""Maximum lateness of a timer of the event loop in seconds."""
POLL_S = 0.0001
"""Seconds between two looks at the clock: to look all the time would take a core from servers."""
_LENGTH = b"content-length:"


class _Client(asyncio.Protocol):
    """One keep-alive connection with a queue of calls; time in the queue counts as latency."""

    def __init__(self, taken: list[float]) -> None:
        self._taken = taken
        self._due: deque[float] = deque()
        self._waiting: deque[bytes] = deque()
        self._received = b""
        self.failed = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def call(self, request: bytes, due: float) -> None:
        self._due.append(due)
        self._waiting.append(request)
        if len(self._due) == 1:
            self._transport.write(self._waiting.popleft())

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        lowered = head.lower()
        at = lowered.index(_LENGTH) + len(_LENGTH)
        if len(body) < int(lowered[at:].partition(b"\r\n")[0]):
            return
        if b" 200 " not in head[:16]:
            self.failed = head[:200].decode("latin-1")
        self._received = b""
        self._taken.append(time.perf_counter() - self._due.popleft())
        if self._waiting:
            self._transport.write(self._waiting.popleft())


def _requests(calls: Path) -> list[bytes]:
    authorization, _connection, *targets = calls.read_text().splitlines()
    head = f" HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {authorization}\r\n\r\n"
    return [f"GET {target}{head}".encode() for target in targets]


async def _reach(due: float) -> None:
    """Wait until ``due``; poll the clock at the end, and process what has arrived.

    A timer of the event loop is late by up to a millisecond, which is as much as a call takes.
    """
    while (ahead := due - time.perf_counter()) > 0:
        if ahead <= TIMER_LATENESS_S:
            time.sleep(min(ahead, POLL_S))  # noqa: ASYNC251 - for less than a call takes
        await asyncio.sleep(max(ahead - TIMER_LATENESS_S, 0))


async def _run(
    port: int, calls: list[bytes], rate: int, seconds: int, connections: int
) -> list[float]:
    loop = asyncio.get_running_loop()
    taken: list[float] = []
    clients = [
        (await loop.create_connection(lambda: _Client(taken), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    requests, turns = itertools.cycle(calls), itertools.cycle(clients)
    began = time.perf_counter() + 0.1
    total = rate * seconds
    sent = 0
    while sent < total:
        due = began + sent / rate
        await _reach(due)
        next(turns).call(next(requests), due)
        sent += 1
    limit = time.perf_counter() + 10
    while len(taken) < total and time.perf_counter() < limit:  # noqa: ASYNC110 - it ends at once
        await asyncio.sleep(0.01)
    failed = [client.failed for client in clients if client.failed]
    if failed or len(taken) < total:
        sys.exit(f"{len(taken)} of {total} calls answered; {failed[:1]}")
    return sorted(taken)


def main() -> None:
    """Run once and print the latencies."""
    port, rate, seconds, connections = (int(sys.argv[n]) for n in (1, 3, 4, 5))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        calls = _requests(Path(sys.argv[2]))
        taken = runner.run(_run(port, calls, rate, seconds, connections))
    at = {name: taken[int(len(taken) * share)] for name, share in (("p50", 0.5), ("p99", 0.99))}
    print(json.dumps({f"{name}_ms": seconds * 1e3 for name, seconds in at.items()}))


if __name__ == "__main__":
    main()
