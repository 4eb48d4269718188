"""Kills of workers, servers and PostgreSQL while platforms send events and callers meet a limit."""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.live.server import BOARD, HARD, PLUGINS, PolicyServer
from lab.report import Finding
from pexpolicy.testing import Simulator, url_of
from pexpolicy.testing.simulator import Event, Present, Protocol
from tests.support import postgresql, wire
from tests.support.limited import request_of
from tests.support.server_process import ServerProcess

PROTOCOLS: tuple[Protocol, ...] = ("webrtc", "sip", "h323")
PAUSE_S = 0.3
"""Seconds between two kills."""
CALLERS = 10
AGE_S = 20_000
"""Seconds by which the clocks of the platforms, which run ahead with their events, are behind."""


def platform(seed: int, people: int) -> Simulator:
    """Return a platform on which people have joined, moved and left."""
    rng = random.Random(seed)
    nodes = [f"10.0.0.{n}" for n in range(1, 7)]
    made = Simulator(rng, nodes=nodes, start=time.time() - AGE_S)
    inside = []
    for number in range(people):
        protocol = PROTOCOLS[rng.randrange(len(PROTOCOLS))]
        inside.append(made.join(f"room{number % 50}", protocol))
        if rng.random() < 0.5:
            made.leave(inside.pop(rng.randrange(len(inside))))
        elif rng.random() < 0.3:
            made.move(rng.choice(inside), f"room{rng.randrange(50)}")
    return made


async def send(servers: Sequence[PolicyServer], events: list[Event], pause: float) -> int:
    """Send what one node sends, each message until it is accepted; return the attempts again."""
    again = 0
    while events:
        size, server = random.randint(1, 5), random.choice(servers)
        envelope = {"node": "127.0.0.1", "seq": 0, "version": 2, "time": time.time()}
        accepted = await server.post({"event": "eventsink_bulk", **envelope, "data": events[:size]})
        again += not accepted
        if accepted:
            del events[:size]
        await asyncio.sleep(pause)
    return again


@dataclass
class Crowd:
    """Callers of one tenant, more than it has places; who is admitted joins, stays and leaves."""

    servers: Sequence[PolicyServer]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    inside: set[str] = field(default_factory=set)
    most: int = 0
    """The highest number of people who were in at the same time."""
    answers: Counter[str] = field(default_factory=Counter)

    async def call(self, caller: str) -> bool:
        """Return whether a call was admitted."""
        port = random.choice(self.servers).port
        with suppress(OSError, IndexError, TimeoutError):
            async with asyncio.timeout(7.0):
                reply = await wire.ask(port, str(url_of(request_of(caller, BOARD))))
            self.answers[reply.json.get("reason", reply.action)] += 1
            return reply.action == "continue"
        self.answers["none"] += 1
        return False

    async def come_and_go(self, number: int) -> None:
        """Call again and again, as another one each time."""
        node = Simulator(
            random.Random(number), nodes=[f"10.0.1.{number}"], start=time.time() - AGE_S
        )
        sent = calls = 0
        while not self.over.is_set():
            caller, calls = f"caller{number}-{calls}@example.com", calls + 1
            if not await self.call(caller):
                await asyncio.sleep(0.05)
                continue
            self.inside.add(caller)
            self.most = max(self.most, len(self.inside))
            person = node.join("board", "sip", alias=BOARD, caller=caller)
            await send(self.servers, node.events[sent:], 0.0)
            await asyncio.sleep(random.random())
            sent = len(node.events)
            node.leave(person)
            self.inside.discard(caller)
            await send(self.servers, node.events[sent:], 0.0)
            sent = len(node.events)


async def restart(servers: Sequence[PolicyServer], working: asyncio.Lock) -> None:
    """Start servers again that have ended, as systemd does: one does if a worker is killed before
    the others were ready.
    """
    while True:
        async with working:
            for server in servers:
                if server.has_ended:
                    await asyncio.to_thread(server.start)
        await asyncio.sleep(0.1)


async def kill(folder: Path, kills: int, seed: int, *, engine: str) -> Finding:
    """Kill while events arrive and callers meet a limit: no other caller is let in, and all counts
    are the truth, and all places are free.
    """
    finding, rng = Finding(engine, f"{kills} kills"), random.Random(seed)
    simulated = platform(seed, people=kills * 2)
    with ExitStack() as stack:
        databases: list[postgresql.Server] = []
        if engine == "postgresql":
            databases.append(stack.enter_context(postgresql.Server.running()))
        given = PLUGINS.format(timeout=4.0), *databases
        servers = [
            stack.enter_context(PolicyServer.running(*given)) for _ in range(1 + len(databases))
        ]
        by_node: dict[str, list[Event]] = {}
        for event in simulated.events:
            by_node.setdefault(event["node"], []).append(event)
        pause = kills * PAUSE_S / max(map(len, by_node.values()))
        sending = asyncio.gather(*(send(servers, events, pause) for events in by_node.values()))
        crowd = Crowd(servers)
        calling = asyncio.gather(*(crowd.come_and_go(number) for number in range(CALLERS)))
        working = asyncio.Lock()
        restarting = asyncio.create_task(restart(servers, working))
        for _ in range(kills):
            await asyncio.sleep(PAUSE_S)
            victim: ServerProcess = rng.choice([*servers, *databases])
            async with working:
                if isinstance(victim, PolicyServer) and rng.random() < 0.8 and victim.workers:
                    with suppress(ProcessLookupError):
                        os.kill(rng.choice(victim.workers), signal.SIGKILL)
                else:
                    await asyncio.to_thread(victim.kill)
                    await asyncio.to_thread(victim.start)
        finding.notes.append(f"{sum(await sending)} messages again, {len(simulated.events)} events")
        crowd.over.set()
        await calling
        truth = {**simulated.truth(), "board": Present()}
        for server in servers:
            await asyncio.to_thread(_expect_truth, finding, server, truth)
        await _expect_all_places(finding, crowd)
        restarting.cancel()
    finding.answered = crowd.answers.total()
    return finding


def _expect_truth(finding: Finding, server: PolicyServer, truth: dict[str, Present]) -> None:
    def wrong() -> dict[str, object]:
        services = server.told("/plugins/live/").get("services", {})
        return {
            name: found
            for name, people in truth.items()
            if (found := services.get(name, {})) != people._asdict() and (found or any(people))
        }

    finding.expect_soon(lambda: not wrong(), f"services differ: {[*wrong().items()][:2]}")


async def _expect_all_places(finding: Finding, crowd: Crowd) -> None:
    """Expect that no place is lost: they become free, and as many people as before are let in."""
    began = time.monotonic()
    server = crowd.servers[0]
    await asyncio.to_thread(finding.expect_soon, lambda: not server.places(), "places are lost")
    finding.notes.append(f"all places free after {time.monotonic() - began:.0f} s")
    finding.notes.append(f"at most {crowd.most} of {HARD} inside, {json.dumps(crowd.answers)}")
    finding.expect(crowd.most == HARD, f"{crowd.most} people were let in, {HARD} may")
    names = [f"late{number}@example.com" for number in range(30)]
    admitted = sum(await asyncio.gather(*map(crowd.call, names)))
    finding.expect(admitted == HARD, f"{admitted} of {HARD} are let in afterwards")
