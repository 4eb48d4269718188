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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab import report
from lab.load import Connection, Load
from lab.report import Finding
from pexpolicy.audit.reader import raw_lines
from pexpolicy.audit.verify import Verification
from pexpolicy.config.secrets import PasswordHash
from tests.support import certificates, live_server, wire
from tests.support.paths import ROOT
from tests.support.processes import pin

KEEPING = 4
"""Nodes that keep their connections."""
MAX_SLOWDOWN = 3.0
MIN_PERCENTILE_S = 0.005
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


@contextmanager
def _apart(pid: int) -> Iterator[None]:
    """Give the server one core and this process the others, where there are any."""
    before = os.sched_getaffinity(0)
    core, *others = sorted(before)
    if others:
        pin(pid, {core})
        os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Nodes:
    """Nodes that call; four of six keep their connections, two have a new address each time."""

    port: int
    headers: Mapping[str, str]
    connecting: Mapping[str, object]

    async def call_until(self, done: asyncio.Event) -> Load:
        """Call again and again, with 10 ms in between."""
        calls = Load()
        await asyncio.gather(*(self._call(number, done, calls) for number in range(1, 7)))
        return calls

    async def _call(self, number: int, done: asyncio.Event, calls: Load) -> None:
        connection = Connection(self.port, self.headers, **self.connecting)
        for count in itertools.count():
            own = number if number <= KEEPING else number + 100 * count
            connection.connecting["local_addr"] = (address(192, own), 0)
            calls.calls.append(await connection.ask(f"{wire.SERVICE}?local_alias=engineering"))
            if number > KEEPING:
                connection.close()
            if done.is_set():
                break
            await asyncio.sleep(0.01)
        connection.close()


async def run(folder: Path, kind: str, clients: int, seconds: float, *, auth: bool) -> Finding:
    """Run one flood against a server in a folder, and compare the answers with its audit."""
    finding = Finding(kind, f"{clients} clients")
    credentials = f'[auth]\nuser = "pexip"\npassword_hash = "{PasswordHash.create("s3cret")}"\n'
    tls = TLS if KINDS[kind].tls else ""
    config = folder / "config.toml"
    config.write_text((credentials if auth else "") + tls + ROOM)
    certificates.write_pair(folder)
    connecting: dict[str, object] = {}
    if tls:
        connecting = {"ssl": certificates.client_context(), "server_hostname": certificates.NAME}
    with live_server.running(config) as server, _apart(server.pid):
        nodes, done = Nodes(server.port, GOOD if auth else {}, connecting), asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, done.set)
        quiet = await nodes.call_until(done)
        before = highest = server.memory
        attackers = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lab.floods", "attack", kind, str(server.port)),
            *(str(clients), str(seconds)),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        attack, done = asyncio.create_task(attackers.communicate()), asyncio.Event()
        calling = asyncio.create_task(nodes.call_until(done))
        while not attack.done():
            highest = max(highest, server.memory)
            await asyncio.sleep(0.05)
        done.set()
        outcomes, calls = Counter(json.loads((await attack)[0])), await calling
    recorded = Counter(line.get("decision_id") for line in server.lines())
    missing = sum(recorded[one] != 1 for one in quiet.ids + calls.ids)
    finding.expect(not missing, f"{missing} decisions are not on record once")
    finding.wrong += [str(fault) for fault in Verification().verify(raw_lines([server.audit]))]
    p99, without = calls.percentile(0.99), quiet.percentile(0.99)
    most = MAX_SLOWDOWN * max(without, MIN_PERCENTILE_S)
    finding.expect_within(p99, most, "the 99th percentile of calls")
    finding.expect(highest <= before + MAX_GROWTH_MIB, "memory grew")
    finding.expect(outcomes or KINDS[kind].does != "repeat", "no attacker was answered")
    strange = sorted({one for one in outcomes if one[0] in "25"})
    finding.expect(not strange, f"attackers were answered {strange}")
    finding.notes.append(
        f"p99 without {1000 * without:.1f} ms; {before:.0f} to {highest:.0f} MiB; attackers: "
        + ", ".join(f"{what} {count:,}" for what, count in outcomes.most_common(3))
    )
    return finding.of(calls)


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
    while not seen and kind.does == "repeat":  # noqa: ASYNC110 - a busy machine leaves them no time
        await asyncio.sleep(0.05)
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


def main() -> int:
    """Run the floods, print the table and what was wrong."""
    options = argparse.ArgumentParser(prog="python -m lab.floods", description=__doc__)
    options.add_argument("--times", type=int, default=10, help="multiple of the clients")
    options.add_argument("--seconds", type=float, default=60.0, help="without and with each flood")
    options.add_argument("--no-auth", dest="auth", action="store_false", help="without [auth]")
    options.add_argument("--only", choices=KINDS, action="append")
    given = options.parse_args()

    async def flood(kind: str, folder: Path) -> Finding:
        clients = given.times * KINDS[kind].clients
        return await run(folder, kind, clients, given.seconds, auth=given.auth)

    kinds = [kind for kind in KINDS if given.auth or kind not in NEEDS_AUTH]
    return report.run({kind: partial(flood, kind) for kind in kinds}, given.only or ())


if __name__ == "__main__":
    if sys.argv[1:2] == ["attack"]:
        attack(sys.argv[2:])
    else:
        sys.exit(main())
