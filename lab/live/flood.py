"""Calls at a steady rate, in turns with events of forty nodes and without, and what both cost."""

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import cores, cpu
from lab.live.server import PLUGINS, PolicyServer
from lab.load import Connection
from lab.report import Finding
from pexpolicy.testing import Simulator, url_of
from pexpolicy.testing.simulator import Person
from tests.support import postgresql, site, wire
from tests.support.limited import request_of
from tests.support.paths import ROOT
from tests.support.waiting import until

NODES = [f"10.0.2.{number}" for number in range(1, 41)]
BULK = 50
"""Events of a message."""
CONNECTIONS = 32
MAX_RATIO, MAX_MORE_MS = 1.2, 1.0
"""One of both is enough."""
MIN_EVENTS = 5_000
"""For each second of processor time."""
FREE = "room@elsewhere.example.com"
"""An alias of no tenant."""
TENANT = """
[plugins.limits.settings.tenants.{name}]
aliases = ["*@{name}.example.com"]
participants = {{ hard = 1000000 }}
"""


def messages(platform: Simulator, count: int) -> list[list[bytes]]:
    """Return requests with so many further events or a few more, by node, in their order.

    A meeting is on two nodes, as those of one location share it.
    """
    del platform.script[:]
    inside: list[Person] = []
    while len(events := platform.events) < count:
        for number in range(100):
            node = NODES[(number + len(inside) % 2) % len(NODES)]
            inside.append(platform.join(f"hall{number}", "sip", node=node))
            if len(inside) > 500:
                platform.leave(inside.pop(0))
    by_node = [[one for one in events if one["node"] == node] for node in NODES]
    envelope = {"event": "eventsink_bulk", "node": "127.0.0.1", "seq": 0, "version": 2}
    return [
        [
            site.message({**envelope, "time": own[0]["time"], "data": own[at : at + BULK]})
            for at in range(0, len(own), BULK)
        ]
        for own in by_node
    ]


async def _is_accepted(port: int, message: bytes) -> bool:
    return (await wire.send(port, message)).status == 200


async def send(port: int, by_node: Sequence[Sequence[bytes]], seconds: float) -> None:
    """Send the messages of all nodes, spread over some seconds."""

    async def node(own: Sequence[bytes]) -> None:
        began = time.monotonic()
        for number, message in enumerate(own):
            await asyncio.sleep(began + seconds * number / len(own) - time.monotonic())
            await until(partial(_is_accepted, port, message))

    await asyncio.gather(*map(node, by_node))


async def percentile(port: int, calls: Path, rate: int, seconds: int) -> float:
    """Return the 99th percentile of calls at a steady rate, in milliseconds."""
    options = (str(port), str(calls), str(rate), str(seconds), str(CONNECTIONS))
    with cores.at_once():
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.openloop", *options),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
    printed, _ = await client.communicate()
    assert client.returncode == 0, "calls were not answered"
    return float(json.loads(printed)["p99_ms"])


async def flooded(folder: Path, events: int, rounds: int, rate: int, seconds: int) -> Finding:
    """Compare the 99th percentile of calls while events arrive with that without, by rounds."""
    finding = Finding(f"{rate} calls a second", f"{events:,} events in {rounds} rounds")
    platform = Simulator(random.Random(9), nodes=NODES, start=time.time() - events)
    calls = folder / "calls"
    calls.write_text("\n".join(["", "", str(url_of(request_of("ann@example.com", FREE)))]))
    pairs = []
    with PolicyServer.running(PLUGINS.format(timeout=4.0)) as server:

        async def events_now() -> Any:
            return (await asyncio.to_thread(server.told, "/status"))["events"]

        async def quiet() -> None:
            while (await events_now())["waiting"]:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.5)  # asking costs processor time too

        for number in range(rounds):
            both = {}
            for has_events in (False, True) if number % 2 else (True, False):
                made = messages(platform, events // rounds) if has_events else []
                sending = asyncio.create_task(send(server.port, made, seconds))
                both[has_events] = await percentile(server.port, calls, rate, seconds)
                await sending
                await quiet()
            pairs.append((both[True], both[False]))
        made = messages(platform, events // rounds)
        before = cpu.reading(server.pid)
        await send(server.port, made, 0.0)
        await quiet()
        spent = cpu.spent(before, cpu.reading(server.pid)) / 1e9
        counts = (await events_now())["counts"].values()
        dispatched = sum(one.get("dispatched", 0) for one in counts)
    finding.answered = len(pairs) * 2 * rate * seconds
    finding.notes.append(f"p99 with and without {[(f'{a:.2f}', f'{b:.2f}') for a, b in pairs]} ms")
    per_second = sum(map(len, made)) * BULK / spent
    finding.notes.append(f"{per_second:,.0f} events a second of processor, {dispatched:,} in all")
    finding.expect(dispatched >= events, f"{dispatched} events were dispatched")
    ratio, more = median(a / b for a, b in pairs), median(a - b for a, b in pairs)
    is_slower = ratio > MAX_RATIO and more > MAX_MORE_MS
    finding.expect(not (is_slower and finding.is_timed), f"p99 {ratio:.2f} times that without")
    finding.expect(per_second >= MIN_EVENTS or not finding.is_timed, "events are slow")
    return finding


async def costs(folder: Path, calls: int, engine: str, tenants: Sequence[int]) -> Finding:
    """Compare calls with one limit and without any in turns, with few and with many tenants."""
    finding = Finding(f"cost on {engine}", f"{calls} calls each")
    for count in tenants:
        names = ["acme", *(f"t{number}" for number in range(count - 1))]
        table = "".join(TENANT.format(name=name) for name in names).replace(
            'aliases = ["*@acme.example.com"]\n', ""
        )
        plugins = f"[plugins.live]\n[plugins.limits]\n{table}"
        with postgresql.Server.running() as database:
            given = (plugins, database) if engine == "postgresql" else (plugins,)
            with (
                PolicyServer.running(*given) as server,
                closing(Connection(server.port)) as connection,
            ):
                taken: tuple[list[float], list[float]] = [], []
                for number in range(calls):
                    name = random.choice(names)
                    for alias, into in zip((f"room@{name}.example.com", FREE), taken, strict=True):
                        target = url_of(request_of(f"caller{number % 50}@example.com", alias))
                        call = await connection.ask(str(target))
                        finding.expect(call.json["action"] == "continue", call.body)
                        into.append(1000 * call.seconds)
        limited, free = map(median, taken)
        finding.answered += 2 * calls
        finding.notes.append(
            f"{count:,} tenants: p50 {limited:.2f} ms, without a limit {free:.2f} ms"
        )
    return finding
