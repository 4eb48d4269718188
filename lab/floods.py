"""Floods of clients without credentials while nodes call: one table, exit code 1 if one did harm.

Each flood has a server of its own on one core. Four nodes call on kept connections and two with a
connection for each call, all from addresses of their own, first without the flood and then with
it. Wrong are a call that was lost or took 5 s, a 99th percentile of more than three times that
without (of 5 ms at least), 100 MiB more memory, and a decision that is not on record.

Run as ``python -m lab.floods attack KIND PORT CLIENTS SECONDS`` the module is the attackers.
"""

import argparse
import asyncio
import gzip
import itertools
import json
import os
import resource
import socket
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pexpolicy.audit.reader import raw_lines
from pexpolicy.audit.verify import Verification
from pexpolicy.config.credentials import PasswordHash
from tests.support import certificates, live_server, wire
from tests.support.paths import ROOT

CALL_TIMEOUT_S = 5.0
"""Seconds after which a node stops waiting for a reply."""
MAX_SLOWDOWN = 3.0
MIN_PERCENTILE_S = 0.005
"""A shorter percentile without a flood counts as this: it is noise of the machine."""
MAX_GROWTH_MIB = 100.0
PIPELINED = 50
"""Requests that are sent at once on a connection that is kept."""
KEEP = {"Connection": "keep-alive"}
GOOD = wire.basic("pexip", "s3cret")
TLS = '[tls]\ncertificate = "server.pem"\nkey = "server.key"\n'
ROOM = '[audit]\npath = "audit.jsonl"\n[plugins.rooms.settings.rooms.engineering]\nname = "Room"\n'


def _client_hello() -> bytes:
    """Return the first message of a TLS client, for which the server makes a signature."""
    output = ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(ssl.MemoryBIO(), output, server_hostname=certificates.NAME)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return output.read()


def _compressed_body() -> bytes:
    body = gzip.compress(bytes(200_000_000), 9)
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(body))}
    return wire.request_bytes("/x", "GET", headers) + body


def _endless_head() -> bytes:
    return wire.request_bytes("/x", "GET", {f"X-{n}": "a" * 16_000 for n in range(4)})[:-2]


def _repeated(target: str, headers: Mapping[str, str]) -> Callable[[], bytes]:
    return lambda: wire.request_bytes(target, "GET", {**KEEP, **headers}) * PIPELINED


HALF = wire.request_bytes(wire.SERVICE, "GET", {"X-Fill": "x" * 4000})[:2000]


@dataclass(frozen=True)
class Kind:
    """A flood: clients for ``--times 1``, what each sends, and how it goes on."""

    clients: int
    content: Callable[[], bytes]
    does: str = "hold"
    """``hold`` the connection; ``repeat`` after each batch of replies; ``drip`` byte by byte."""
    tls: bool = False
    pause: float = 0.0
    """Seconds before an attacker connects again."""


KINDS = {
    "silent": Kind(400, bytes),
    "half-sent": Kind(400, lambda: HALF),
    "dripping": Kind(100, lambda: HALF, "drip"),
    "refused": Kind(400, lambda: wire.request_bytes("/x", "GET", KEEP)),
    "silent-tls": Kind(400, bytes, tls=True),
    "handshakes": Kind(40, _client_hello, tls=True),
    "bodies": Kind(40, _compressed_body, pause=0.2),
    "heads": Kind(60, _endless_head, pause=0.2),
    "unknown-paths": Kind(1, _repeated(f"/{'a' * 190}", {}), "repeat"),
    "no-credentials": Kind(1, _repeated(f"{wire.SERVICE}?local_alias=x", {}), "repeat"),
    "guesses": Kind(
        10, _repeated(f"{wire.SERVICE}?local_alias=x", wire.basic("pexip", "guess")), "repeat"
    ),
}
NEEDS_AUTH = {"no-credentials", "guesses"}


def address(network: int, number: int) -> str:
    """Return one of many loopback addresses."""
    return f"127.{network + (number >> 16) % 64}.{number >> 8 & 255}.{number & 255}"


@dataclass
class Calls:
    """Durations of answered calls, errors of the others, and the decisions answered."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    @property
    def p99(self) -> float:
        ordered = sorted(self.seconds)
        return ordered[int(0.99 * (len(ordered) - 1))] if ordered else 0.0

    @property
    def longest(self) -> float:
        return max(self.seconds, default=0.0)


@dataclass(frozen=True)
class Node:
    """A node: where it calls, and if it keeps its connection or has a new address each time."""

    port: int
    headers: Mapping[str, str]
    context: ssl.SSLContext | None
    number: int
    keeps: bool

    async def call_until(self, done: asyncio.Event, calls: Calls) -> None:
        """Call again and again, with 10 ms in between."""
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for count in itertools.count():
            if done.is_set():
                break
            began = time.perf_counter()
            try:
                async with asyncio.timeout(2 * CALL_TIMEOUT_S):
                    own = self.number if self.keeps else self.number + 100 * count
                    streams = streams or await asyncio.open_connection(
                        *("127.0.0.1", self.port),
                        ssl=self.context,
                        server_hostname=None if self.context is None else certificates.NAME,
                        local_addr=(address(192, own), 0),
                    )
                    calls.ids.append(await self._exchange(*streams))
                calls.seconds.append(time.perf_counter() - began)
            except (OSError, EOFError, ValueError) as error:
                calls.failed.append(f"{type(error).__name__}: {error}")
            if streams is not None and (not self.keeps or len(calls.failed)):
                streams[1].transport.abort()
                streams = None
            await asyncio.sleep(0.01)
        if streams is not None:
            streams[1].close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        target = f"{wire.SERVICE}?local_alias=engineering"
        writer.write(wire.request_bytes(target, "GET", {**KEEP, **self.headers}))
        reply = wire.parse(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(int(reply.headers["content-length"]))
        if reply.status != 200:
            raise ValueError(f"status {reply.status}")
        return str(json.loads(body)["decision_id"])


@dataclass
class Flood:
    """What became of the calls of nodes and of the attackers."""

    kind: str
    clients: int
    quiet: Calls
    calls: Calls
    outcomes: Counter[str]
    memory: tuple[float, float]
    """MiB before the flood, and at most."""
    problems: list[str] = field(default_factory=list)
    """Of the audit."""

    def wrong(self, shortest: float = MIN_PERCENTILE_S) -> list[str]:
        """Return a description of each failure."""
        late = [f"a call took {one:.1f} s" for one in self.calls.seconds if one > CALL_TIMEOUT_S]
        wrong = late + self.calls.failed + self.problems
        if not self.calls.seconds:
            wrong.append("no call was answered")
        if self.memory[1] > self.memory[0] + MAX_GROWTH_MIB:
            wrong.append("memory grew from {:.0f} to {:.0f} MiB".format(*self.memory))
        if self.calls.p99 > MAX_SLOWDOWN * max(self.quiet.p99, shortest):
            wrong.append("calls were slow")
        if strange := {one for one in self.outcomes if one[0] in "25"}:
            wrong.append(f"attackers were answered {sorted(strange)}")
        return wrong

    @property
    def row(self) -> tuple[str, ...]:
        """Return the figures by column."""
        calls, quiet = self.calls, self.quiet
        return (
            *(self.kind, str(self.clients), f"{len(calls.seconds):,}", str(len(calls.failed))),
            *(f"{1000 * one:.1f}" for one in (calls.p99, quiet.p99, calls.longest)),
            "/".join(f"{mib:.0f}" for mib in self.memory),
            " ".join(f"{what} {count:,}" for what, count in self.outcomes.most_common(3)),
        )


COLUMNS = ("flood", "clients", "calls", "lost", "p99 ms", "without", "longest", "MiB", "attackers")


@contextmanager
def _apart(pid: int) -> Iterator[None]:
    """Give the server one core and this process the others, where there are any."""
    before = os.sched_getaffinity(0)
    core, *others = sorted(before)
    if others:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})
        os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def _calling(nodes: Sequence[Node], done: asyncio.Event) -> Calls:
    calls = Calls()
    await asyncio.gather(*(node.call_until(done, calls) for node in nodes))
    return calls


async def _measure(
    server: live_server.Running, kind: str, clients: int, seconds: float, nodes: Sequence[Node]
) -> Flood:
    """Let nodes call without attackers, then with them, for the same time."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, done.set)
    quiet = await _calling(nodes, done)
    before = highest = server.memory
    attackers = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lab.floods", "attack", kind, str(server.port)),
        *(str(clients), str(seconds)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    attack, done = asyncio.create_task(attackers.communicate()), asyncio.Event()
    calling = asyncio.create_task(_calling(nodes, done))
    while not attack.done():
        highest = max(highest, server.memory)
        await asyncio.sleep(0.05)
    done.set()
    outcomes = Counter(json.loads((await attack)[0]))
    return Flood(kind, clients, quiet, await calling, outcomes, (before, highest))


async def run(folder: Path, kind: str, clients: int, seconds: float, *, auth: bool) -> Flood:
    """Run one flood against a server in a folder, and compare the answers with its audit."""
    credentials = f'[auth]\nuser = "pexip"\npassword_hash = "{PasswordHash.create("s3cret")}"\n'
    tls = TLS if KINDS[kind].tls else ""
    config = folder / "config.toml"
    config.write_text((credentials if auth else "") + tls + ROOM)
    certificates.write_pair(folder)
    context = certificates.client_context() if tls else None
    with live_server.running(config) as server, _apart(server.pid):
        headers = GOOD if auth else {}
        nodes = [Node(server.port, headers, context, n + 1, keeps=n < 4) for n in range(6)]
        flood = await _measure(server, kind, clients, seconds, nodes)
    recorded = Counter(line.get("decision_id") for line in server.lines())
    answered = flood.quiet.ids + flood.calls.ids
    missing = sum(recorded[one] != 1 for one in answered)
    flood.problems += [f"{missing} decisions are not on record once"] if missing else []
    flood.problems += [str(fault) for fault in Verification().verify(raw_lines([server.audit]))]
    return flood


async def _attack(kind: Kind, port: int, number: int, content: bytes, seen: Counter[str]) -> None:
    """Connect again and again from one address, and count how connections end."""
    loop = asyncio.get_running_loop()
    while True:
        with suppress(OSError), socket.socket() as client:
            client.setblocking(False)
            client.bind((address(16, number), 0))
            await loop.sock_connect(client, ("127.0.0.1", port))
            try:
                await _use(kind, client, content, seen)
            except OSError:
                seen["reset"] += 1
        await asyncio.sleep(kind.pause)


async def _use(kind: Kind, client: socket.socket, content: bytes, seen: Counter[str]) -> None:
    loop = asyncio.get_running_loop()
    if kind.does == "repeat":
        # In a task of its own, as a server may stop reading before it has all.
        while True:
            sending = asyncio.ensure_future(loop.sock_sendall(client, content))
            replies = 0
            while replies < PIPELINED:
                received = await loop.sock_recv(client, 65536)
                for status in (b"HTTP/1.1 " + code for code in (b"401", b"404", b"429")):
                    seen[status[9:].decode()] += received.count(status)
                    replies += received.count(status)
                if not received:
                    seen["closed"] += 1
                    return
            await sending
    if kind.does == "drip":
        for byte in content:
            await loop.sock_sendall(client, bytes([byte]))
            await asyncio.sleep(0.25)
    await loop.sock_sendall(client, content)
    received = await loop.sock_recv(client, 4096)
    seen[received[9:12].decode() if received.startswith(b"HTTP/") else "closed"] += 1
    while received:
        received = await loop.sock_recv(client, 4096)


async def _attack_all(name: str, port: int, clients: int, seconds: float) -> Counter[str]:
    kind, seen = KINDS[name], Counter[str]()
    content = kind.content()
    tasks = [
        asyncio.create_task(_attack(kind, port, number + 1, content, seen))
        for number in range(clients)
    ]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    return seen


def attack(arguments: Sequence[str]) -> None:
    """Be the attackers; print how their connections ended."""
    name, port, clients, seconds = arguments
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Real attackers are on other machines: leave the processor to the server.
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    seen = asyncio.run(_attack_all(name, int(port), int(clients), float(seconds)))
    sys.stdout.write(json.dumps({what: count for what, count in seen.items() if count}))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows with their heading, the columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.rjust, row, widths)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def main() -> int:
    """Run the floods, print the table and what was wrong."""
    options = argparse.ArgumentParser(prog="python -m lab.floods", description=__doc__)
    options.add_argument("--times", type=int, default=10, help="multiple of the clients")
    options.add_argument("--seconds", type=float, default=60.0, help="without and with each flood")
    options.add_argument("--no-auth", dest="auth", action="store_false", help="without [auth]")
    options.add_argument("--only", choices=KINDS, action="append")
    chosen = options.parse_args()
    rows: list[tuple[str, ...]] = [COLUMNS]
    wrong: list[str] = []
    for kind in chosen.only or KINDS:
        if chosen.auth or kind not in NEEDS_AUTH:
            clients = chosen.times * KINDS[kind].clients
            with tempfile.TemporaryDirectory(prefix="floods-") as folder:
                flood = asyncio.run(
                    run(Path(folder), kind, clients, chosen.seconds, auth=chosen.auth)
                )
            rows.append(flood.row)
            wrong += [f"wrong: {kind}: {text}\n" for text in sorted(set(flood.wrong()))]
    sys.stdout.write(table(rows))
    sys.stdout.writelines(wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["attack"]:
        attack(sys.argv[2:])
    else:
        sys.exit(main())
