"""Floods of requests that are refused and of TLS handshakes, while nodes call.

Run as a program, the module is the attackers: their CPU time is not that of the nodes.
"""

import argparse
import asyncio
import gzip
import json
import os
import ssl
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.chaos.access.nodes import Calling, Calls, Node
from tests.support import certificates, live_server, wire
from tests.support.paths import ROOT

KINDS = {
    "bodies": ("request body", "400"),
    "heads": ("header too large", "431"),
    "handshakes": ("tls handshake failed", "tls"),
    "requests": ("unknown path", "404"),
    "unauthorised": ("unauthorised", "401"),
}
"""Reason of the refusal and what the attacker gets, by kind of attack."""
MAX_SLOWDOWN = 3.0
"""Maximum ratio of the 99th percentile under attack to that without."""
MIN_PERCENTILE_S = 0.005
"""A shorter percentile without an attack counts as this: it is noise of the machine."""
MAX_GROWTH_MIB = 100.0
"""Maximum growth of the server's memory."""
REPEATED = {"requests": f"/{'a' * 190}", "unauthorised": f"{wire.SERVICE}?local_alias=x"}
"""Targets that are requested again and again, by kind."""
PIPELINED = 50
"""Requests that are sent at once."""
UNPACKED_BYTES = 200_000_000
ADDRESSES = 200
RECONNECT_PAUSES_S = {"bodies": 0.2, "heads": 0.2}


@dataclass
class Flood:
    """Calls of nodes before and during the attack, replies to attackers, and memory."""

    kind: str
    attackers: int
    quiet: Calls
    calls: Calls
    replies: dict[str, int]
    memory: tuple[float, float, float]
    """MiB before, at most, and afterwards."""
    on_record: int = 0
    """Refusals."""
    missing: int = 0
    """Answered decisions that are not on record."""
    record_problems: list[str] = field(default_factory=list)

    def wrong(self, shortest: float = MIN_PERCENTILE_S) -> list[str]:
        """Return a description of each failure."""
        wrong = self.calls.wrong() + self.record_problems
        before, highest, _ = self.memory
        if highest > before + MAX_GROWTH_MIB:
            wrong.append(f"the server grew from {before:.0f} to {highest:.0f} MiB")
        least = max(self.quiet.percentile(0.99), shortest)
        if self.calls.percentile(0.99) > MAX_SLOWDOWN * least:
            wrong.append(f"calls were slow: {self.calls.sentence}; without: {self.quiet.sentence}")
        status = KINDS[self.kind][1]
        answered = self.replies.get(status, 0)
        # A client that leaves during the handshake is no refusal.
        if not self.on_record and self.kind != "handshakes":
            wrong.append("no refusal is on record")
        if self.on_record < answered and self.kind != "handshakes":
            wrong.append(f"{answered} requests were refused and {self.on_record} are on record")
        if strange := self.replies.keys() - {status, "closed", "held"}:
            wrong.append(f"attackers were answered {sorted(strange)}")
        return wrong

    @property
    def sentence(self) -> str:
        """Return all figures in one line."""
        before, highest, after = self.memory
        return (
            f"{self.attackers} attackers, {self.replies}, {self.on_record} refusals on record; "
            f"memory {before:.0f} MiB before, {highest:.0f} at most, {after:.0f} afterwards; "
            f"without them {self.quiet.sentence}; with them {self.calls.sentence}"
        )


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def pin(pid: int, core: int) -> None:
    """Run all threads of a process on one core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


@contextmanager
def _measuring(cores: Sequence[int]) -> Iterator[None]:
    """Run this process on these cores if there are any, and with priority if it is allowed to."""
    before = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
    try:
        if cores:
            os.sched_setaffinity(0, cores)
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, -10)
        yield
    finally:
        os.sched_setaffinity(0, before[0])
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before[1])


def count_refusals(server: live_server.Running, kind: str) -> int:
    """Count the refusals in the audit once the server has ended, as it may delay their lines."""
    reason, _ = KINDS[kind]
    return sum(line.get("times", 1) for line in server.lines() if line.get("reason") == reason)


async def measure_flood(
    server: live_server.Running,
    kind: str,
    attackers: int,
    seconds: float,
    headers: Mapping[str, str],
) -> Flood:
    """Let nodes call without attackers, then with attackers, for the same number of seconds.

    The server has a core of its own, if there is more than one: attackers are on other machines.
    So are the nodes, which are measured: they go before the attackers on the other cores.
    """
    context = certificates.client_context() if kind == "handshakes" else None
    nodes = [Node(server.port, headers, context) for _ in range(4)]
    nodes.append(Node(server.port, headers, context, reuses=False))
    core, *others = sorted(os.sched_getaffinity(0))
    if others:
        pin(server.pid, core)
    with _measuring(others):
        async with Calling(nodes) as quiet:
            await asyncio.sleep(seconds)
        before = highest = memory_mib(server.pid)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, kind),
            *(str(server.port), str(attackers), str(seconds)),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        attack = asyncio.create_task(process.communicate())
        async with Calling(nodes) as calls:
            while not attack.done():
                highest = max(highest, memory_mib(server.pid))
                await asyncio.sleep(0.05)
        replies: dict[str, int] = json.loads((await attack)[0])
    await asyncio.sleep(2.0)
    memory = (before, highest, memory_mib(server.pid))
    return Flood(kind, attackers, quiet, calls, replies, memory)


def _sent(kind: str, number: int) -> bytes:
    """Return the bytes that one attacker sends on each connection."""
    if kind == "handshakes":
        return client_hello()
    if kind in REPEATED:
        return wire.request_bytes(REPEATED[kind], "GET", {"Connection": "keep-alive"}) * PIPELINED
    if kind == "bodies":
        body = gzip.compress(bytes(UNPACKED_BYTES), 9)
        headers = {"Content-Encoding": "gzip", "Content-Length": str(len(body))}
        return wire.request_bytes("/x", "GET", headers) + body
    fields, size = (125, 32_700) if number % 2 else (4, 16_000)
    headers = {f"X-{field}": "a" * size for field in range(fields)}
    return wire.request_bytes("/x", "GET", headers)[:-2]


def client_hello() -> bytes:
    """Return the first message of a TLS client, for which the server makes a signature."""
    context = ssl.create_default_context()
    output = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), output, server_hostname=certificates.NAME)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return output.read()


async def _attack(
    kind: str, port: int, number: int, content: bytes, ends: float, seen: Counter[str]
) -> None:
    """Send the content on one connection after another."""
    address = f"127.0.2.{number % ADDRESSES + 1}"
    while time.perf_counter() < ends:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(address, 0)
            )
            try:
                async with asyncio.timeout(max(ends - time.perf_counter(), 0.0)):
                    if kind in REPEATED:
                        await _send_repeatedly(reader, writer, content, seen)
                    else:
                        writer.write(content)
                        seen[await _outcome(kind, reader)] += 1
            except TimeoutError:
                seen["held"] += 1
            finally:
                writer.transport.abort()
        await asyncio.sleep(RECONNECT_PAUSES_S.get(kind, 0.0))


async def _outcome(kind: str, reader: asyncio.StreamReader) -> str:
    received = b""
    with suppress(ConnectionError):
        # A TLS server has done its work once it sends anything.
        received = await (reader.read(1) if kind == "handshakes" else reader.read())
    if not received:
        return "closed"
    return "tls" if kind == "handshakes" else str(wire.parse(received).status)


async def _send_repeatedly(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes, seen: Counter[str]
) -> None:
    """Send the requests of ``content`` again and again, each time after their replies."""
    while True:
        writer.write(content)
        for _ in range(PIPELINED):
            head = await reader.readuntil(b"\r\n\r\n")
            seen[str(wire.parse(head).status)] += 1


async def _attack_all(kind: str, port: int, attackers: int, seconds: float) -> Counter[str]:
    contents = [_sent(kind, number) for number in range(2)]
    ends = time.perf_counter() + seconds
    seen: Counter[str] = Counter()
    await asyncio.gather(
        *(
            _attack(kind, port, number, contents[number % 2], ends, seen)
            for number in range(attackers)
        )
    )
    return seen


def main() -> None:
    """Attack, and print the number of connections by the way they ended."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("kind", choices=KINDS)
    options.add_argument("port", type=int)
    options.add_argument("attackers", type=int)
    options.add_argument("seconds", type=float)
    chosen = options.parse_args()
    # Real attackers are on other machines: leave the CPU time to the server.
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    seen = asyncio.run(_attack_all(chosen.kind, chosen.port, chosen.attackers, chosen.seconds))
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
