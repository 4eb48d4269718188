"""First calls of nodes at addresses of their own, while strangers hold connections.

Run as a program, the module is the strangers, each at an address of its own.
"""

import argparse
import asyncio
import json
import os
import resource
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from lab.chaos.access.flood import client_hello, memory_mib, pin
from lab.chaos.access.nodes import CALL_TIMEOUT_S
from tests.support import certificates, live_server, wire
from tests.support.paths import ROOT

WHOLE = wire.request_bytes(wire.SERVICE, "GET", {"X-Fill": "x" * 4000})
SENT = {
    "silent": b"",
    "half-sent": WHOLE[: len(WHOLE) // 2],
    "refused": wire.request_bytes("/x", "GET", {"Connection": "keep-alive"}),
    "silent tls": b"",
    "hello tls": b"",
}
"""What a stranger sends, by kind; the message of ``hello tls`` is made when it starts."""
PAUSE_S = 0.05
"""Seconds between two first calls."""
OPEN_SHARE = 0.8
"""The nodes call once the strangers have opened this share of their connections."""
MAX_GROWTH_MIB = 100.0
"""Maximum growth of the server's memory."""


@dataclass
class Newcomers:
    """What became of the first calls, and how many connections the strangers opened."""

    kind: str
    clients: int
    round_trip_s: float
    seconds: list[float] = field(default_factory=list)
    """Of the answered calls."""
    lost: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    """The decisions that were answered."""
    opened: int = 0
    took: float = 0.0
    growth_mib: float = 0.0
    record_problems: list[str] = field(default_factory=list)

    def wrong(self) -> list[str]:
        """Return a description of each failure."""
        wrong = [f"{count} first calls were lost: {why}" for why, count in self.lost.items()]
        wrong += [f"a first call took {one:.1f} s" for one in self.seconds if one > CALL_TIMEOUT_S]
        if not self.seconds:
            wrong.append("no first call was answered")
        wrong += self.record_problems
        if self.growth_mib > MAX_GROWTH_MIB:
            wrong.append(f"the server grew by {self.growth_mib:.0f} MiB")
        return wrong

    @property
    def sentence(self) -> str:
        """Return all figures in one line."""
        ordered = sorted(self.seconds) or [0.0]
        return (
            f"{self.clients} {self.kind} strangers, {self.opened} connections "
            f"({self.opened / max(self.took, 0.001):.0f} a second); first calls with a round trip "
            f"of {self.round_trip_s * 1000:.0f} ms: {len(self.seconds)} answered, "
            f"p50 {ordered[len(ordered) // 2] * 1000:.0f} ms, longest {ordered[-1] * 1000:.0f} ms; "
            f"lost: {self.lost.total()}; memory +{self.growth_mib:.0f} MiB"
        )


def _address(network: int, number: int) -> str:
    """Return one of many loopback addresses."""
    return f"127.{network + (number >> 16) % 64}.{number >> 8 & 255}.{number & 255}"


async def _first_call(
    server: live_server.Running,
    seen: Newcomers,
    number: int,
    headers: Mapping[str, str],
    context: ssl.SSLContext | None,
) -> None:
    """Call once from an address that has not called before."""
    began = time.perf_counter()
    writer = None
    try:
        async with asyncio.timeout(2 * CALL_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                server.port,
                ssl=context,
                server_hostname=certificates.NAME if context is not None else None,
                local_addr=(_address(192, number), 0),
            )
            await asyncio.sleep(seen.round_trip_s)
            target = f"{wire.SERVICE}?local_alias=engineering"
            writer.write(wire.request_bytes(target, "GET", headers))
            reply = wire.parse(await reader.read())
    except (OSError, EOFError, ValueError, IndexError) as error:
        seen.lost[type(error).__name__] += 1
    else:
        if reply.status == 200:
            seen.seconds.append(time.perf_counter() - began)
            seen.ids.append(reply.json["decision_id"])
        else:
            seen.lost[f"status {reply.status}"] += 1
    finally:
        if writer is not None:
            writer.transport.abort()


async def measure_newcomers(
    server: live_server.Running,
    kind: str,
    clients: int,
    calls: int,
    round_trip_s: float,
    headers: Mapping[str, str],
) -> Newcomers:
    """Let ``calls`` new nodes call, one after another, while strangers hold connections.

    The server has a core of its own, if there is more than one.
    """
    context = certificates.client_context() if kind.endswith("tls") else None
    core, *others = sorted(os.sched_getaffinity(0))
    if others:
        pin(server.pid, core)
    before = highest = memory_mib(server.pid)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, kind, str(server.port), str(clients)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    if others:
        os.sched_setaffinity(process.pid, others)
    assert process.stdout is not None
    await process.stdout.readline()
    seen = Newcomers(kind, clients, round_trip_s)
    began = time.perf_counter()
    running: set[asyncio.Task[None]] = set()
    for number in range(calls):
        task = asyncio.create_task(_first_call(server, seen, number, headers, context))
        running.add(task)
        await asyncio.sleep(PAUSE_S)
        highest = max(highest, memory_mib(server.pid))
    await asyncio.gather(*running)
    seen.took = time.perf_counter() - began
    output, _ = await process.communicate(b"\n")
    seen.opened = json.loads(output)
    seen.growth_mib = highest - before
    return seen


async def _hold(port: int, content: bytes, number: int, opened: Counter[str]) -> None:
    """Open one connection after another, each as soon as the server closes the one before."""
    loop = asyncio.get_running_loop()
    while True:
        with suppress(OSError), socket.socket() as stranger:
            stranger.setblocking(False)
            stranger.bind((_address(16, number), 0))
            await loop.sock_connect(stranger, ("127.0.0.1", port))
            opened["all"] += 1
            if content:
                await loop.sock_sendall(stranger, content)
            while await loop.sock_recv(stranger, 4096):
                pass
        await asyncio.sleep(0)


async def _hold_all(kind: str, port: int, clients: int) -> None:
    content = client_hello() if kind == "hello tls" else SENT[kind]
    opened: Counter[str] = Counter()
    tasks = [asyncio.create_task(_hold(port, content, number, opened)) for number in range(clients)]
    while opened["all"] < OPEN_SHARE * clients:  # noqa: ASYNC110 - of a hundred tasks
        await asyncio.sleep(0.01)
    before = opened["all"]
    sys.stdout.write("open\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    sys.stdout.write(json.dumps(opened["all"] - before))
    for task in tasks:
        task.cancel()


def main() -> None:
    """Hold connections until a line is read; print how many were opened meanwhile."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("kind", choices=SENT)
    options.add_argument("port", type=int)
    options.add_argument("clients", type=int)
    chosen = options.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_hold_all(chosen.kind, chosen.port, chosen.clients))


if __name__ == "__main__":
    main()
