"""Kills of workers, servers and PostgreSQL while two platforms send events: no count may differ."""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from lab import report
from lab.report import Finding
from pexpolicy.testing import Simulator
from pexpolicy.testing.simulator import Event, Present, Protocol
from tests.support import postgresql, wire
from tests.support.processes import children
from tests.support.server_process import ServerProcess, free_port
from tests.support.waiting import HANG_S

SINK = wire.basic("sink", "a password of the sink")
CONFIG = """
[server]
port = {port}
state_dir = "state"
workers = 2
[admin]
port = {admin}
[audit]
path = "audit.jsonl"
[events]
user = "sink"
password_file = "sink.password"
[plugins.live]
{shared}
"""
SHARED = '[shared]\ndriver = "postgresql"\nurl = "{}"\npassword_file = "db.password"'
PROTOCOLS: tuple[Protocol, ...] = ("webrtc", "sip", "h323")
PAUSE_S = 0.3
"""Seconds between two kills."""


class PolicyServer(ServerProcess):
    """A policy server with two workers."""

    def __init__(self, folder: Path, shared: str) -> None:
        super().__init__(folder)
        self._user = self._group = None  # the account of databases may not read our environment
        os.chown(folder, os.getuid(), os.getgid())
        self.port, self.admin = free_port(), free_port()
        for name, secret in (("sink", "a password of the sink"), ("db", postgresql.PASSWORD)):
            (folder / f"{name}.password").write_text(secret)
            (folder / f"{name}.password").chmod(0o600)
        text = CONFIG.format(port=self.port, admin=self.admin, shared=shared)
        (folder / "config.toml").write_text(text)

    def command(self) -> list[str]:
        return [str(Path(sys.executable).parent / "pexpolicy"), "serve"]

    def is_ready(self) -> bool:
        with suppress(OSError, IndexError):
            return wire.ask_blocking(self.port, "/readyz").status == 200
        return False

    @property
    def workers(self) -> list[int]:
        return [] if self._process is None else [*children(self._process.pid)]

    def counts(self) -> dict[str, Present]:
        """Return who is in which service, as an operator sees it."""
        with suppress(OSError, IndexError, ValueError):
            headers = {"Host": "127.0.0.1"}
            told = wire.ask_blocking(self.admin, "/plugins/live/", headers=headers).json
            return {name: Present(**counts) for name, counts in told["services"].items()}
        return {}


def platform(seed: int, people: int) -> Simulator:
    """Return a platform on which people have joined, moved and left."""
    rng = random.Random(seed)
    made = Simulator(rng, nodes=[f"10.0.0.{n}" for n in range(1, 7)], start=time.time() - 20_000)
    inside = []
    for number in range(people):
        protocol = PROTOCOLS[rng.randrange(len(PROTOCOLS))]
        inside.append(made.join(f"room{number % 50}", protocol))
        if rng.random() < 0.5:
            made.leave(inside.pop(rng.randrange(len(inside))))
        elif rng.random() < 0.3:
            made.move(rng.choice(inside), f"room{rng.randrange(50)}")
    return made


async def send(servers: list[PolicyServer], events: list[Event], pause: float) -> int:
    """Send what one node sends, each message until it is accepted; return the attempts again."""
    again = 0
    while events:
        size, server = random.randint(1, 5), random.choice(servers)
        envelope = {"node": "127.0.0.1", "seq": 0, "version": 2, "time": time.time()}
        body = json.dumps({"event": "eventsink_bulk", **envelope, "data": events[:size]}).encode()
        request = wire.request_bytes(
            "/events/v1", "POST", SINK | {"Content-Length": str(len(body))}
        )
        accepted = False
        with suppress(OSError, IndexError, TimeoutError):
            async with asyncio.timeout(7.0):
                accepted = (await wire.send(server.port, request + body)).status == 200
        again += not accepted
        if accepted:
            del events[:size]
        await asyncio.sleep(pause)
    return again


async def kill(folder: Path, kills: int, seed: int, *, engine: str) -> Finding:
    """Kill while events arrive; then the counts of all servers must be the truth."""
    finding, rng = Finding(engine, f"{kills} kills"), random.Random(seed)
    simulated = platform(seed, people=kills * 2)
    with ExitStack() as stack:
        databases, shared = [], ""
        if engine == "postgresql":
            databases.append(stack.enter_context(postgresql.Server.running()))
            shared = SHARED.format(databases[0].url)
        count = 1 + len(databases)
        servers = [stack.enter_context(PolicyServer.running(shared)) for _ in range(count)]
        by_node: dict[str, list[Event]] = {}
        for event in simulated.events:
            by_node.setdefault(event["node"], []).append(event)
        pause = kills * PAUSE_S / max(map(len, by_node.values()))
        sending = asyncio.gather(*(send(servers, events, pause) for events in by_node.values()))
        for _ in range(kills):
            await asyncio.sleep(PAUSE_S)
            victim: ServerProcess = rng.choice([*servers, *databases])
            if isinstance(victim, PolicyServer) and rng.random() < 0.8 and victim.workers:
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(victim.workers), signal.SIGKILL)
            else:
                victim.kill()
                await asyncio.to_thread(victim.start)
        finding.notes.append(f"{sum(await sending)} messages again, {len(simulated.events)} events")
        deadline, truth = time.monotonic() + HANG_S, simulated.truth()
        for server in servers:
            while (found := server.counts()) != truth and time.monotonic() < deadline:
                await asyncio.to_thread(time.sleep, 1.0)
            wrong = {n: (found.get(n), p) for n, p in truth.items() if found.get(n) != p}
            finding.expect(
                not wrong, f"{len(wrong)} services differ, such as {[*wrong.items()][:2]}"
            )
    return finding


def main() -> int:
    """Parse the options, run the experiments, print a table."""
    options = argparse.ArgumentParser(prog="python -m lab.live", description=__doc__)
    options.add_argument("--only", nargs="*", default=[], metavar="NAME")
    options.add_argument("--kills", type=int, default=1000)
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = options.parse_args()
    engines = ("sqlite", "postgresql")
    experiment = {
        name: partial(kill, kills=given.kills, seed=given.seed, engine=name) for name in engines
    }
    return report.run(experiment, given.only)


if __name__ == "__main__":
    sys.exit(main())
