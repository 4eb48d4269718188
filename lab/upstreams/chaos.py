"""A server under load with broken targets, one by one and all at once."""

import asyncio
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.chaos.load import Call, Connection
from lab.upstreams import servers
from lab.upstreams.broken import BAD, KINDS, Broken
from lab.upstreams.host import hosted
from tests.support import live_server, wire

TIMEOUT = 0.4
"""Timeout of each target in seconds."""
SLACK = 0.6
"""Additional seconds for a call, because load and server share two cores with others."""
GOOD = "good"


@dataclass(frozen=True)
class Figures:
    """Figures of the calls while one target, or all, were broken. Times in seconds."""

    name: str
    needing: int
    needing_longest: float
    others: int
    others_p99: float
    others_longest: float
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ServerWithTargets:
    """A server with a target of each kind, and a sound one."""

    server: live_server.Running

    @property
    def descriptors(self) -> int:
        """Open descriptors of the server."""
        return len(os.listdir(f"/proc/{self.server.pid}/fd"))  # noqa: PTH208 - names are enough

    @property
    def memory(self) -> int:
        """Resident memory of the server in MiB."""
        pages = int(Path(f"/proc/{self.server.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 2**20

    async def load(
        self,
        name: str,
        needing: Sequence[Broken],
        *,
        each: int = 6,
        others: int = 6,
        seconds: float = 1.0,
        pause: float = 0.002,
        limit: float = TIMEOUT,
    ) -> Figures:
        """Ask for broken targets by ``each`` connections a kind, and for the sound one.

        Behind each reply of a broken one there is a ``pause``; a call to the sound one may take
        ``limit``, both in seconds.
        """
        ends = time.perf_counter() + seconds
        of_needing, of_others = await asyncio.gather(
            _asked([alias_of(kind) for kind in needing] * each, self.server.port, ends, pause),
            _asked([GOOD] * others, self.server.port, ends, 0.002),
        )
        times = sorted(call.seconds for call in of_others)
        return Figures(
            name,
            len(of_needing),
            max((call.seconds for call in of_needing), default=0.0),
            len(times),
            statistics.quantiles(times, n=100)[98],
            times[-1],
            wrong=[*_wrong_needing(of_needing), *_wrong_others(of_others, limit)],
        )


def alias_of(kind: Broken) -> str:
    """The alias that leads to the target of a kind."""
    return f"kind{KINDS.index(kind)}"


@asynccontextmanager
async def server_with_targets(
    kinds: Sequence[Broken], folder: Path
) -> AsyncIterator[ServerWithTargets]:
    """Start the broken targets and the server, each in a process of its own."""
    sound = servers.always(servers.decided(servers.ROOM))
    async with (
        servers.answering(sound) as good,
        hosted([KINDS.index(kind) for kind in kinds]) as hosts,
    ):
        urls = dict(zip(map(alias_of, kinds), hosts, strict=True))
        (folder / "config.toml").write_text(_configuration(good.url, urls))
        running = live_server.running(folder / "config.toml")
        server = await asyncio.to_thread(running.__enter__)
        try:
            yield ServerWithTargets(server)
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)


def _configuration(good: str, urls: dict[str, str]) -> str:
    # No breaker opens: each call goes to its target.
    targets = "".join(
        f"[plugins.upstream.settings.targets.{name}]\nurl = {json.dumps(url)}\n"
        f"timeout = {TIMEOUT}\nbreaker = {{ failures = 10000, window = 0.001 }}\n"
        for name, url in {**urls, GOOD: good}.items()
    )
    routes = "".join(
        f'[[plugins.upstream.settings.routes]]\ntargets = ["{name}"]\nwhen.local_alias = "{name}"\n'
        for name in (*urls, GOOD)
    )
    audit = '[audit]\npath = "audit.jsonl"\n'
    return f"{audit}[plugins.upstream]\ntimeout = 2.0\n{targets}{routes}"


async def _asked(aliases: Sequence[str], port: int, ends: float, pause: float) -> list[Call]:
    """The calls of one connection for each alias, one call at a time."""
    calls: list[Call] = []

    async def one(alias: str) -> None:
        connection = Connection(port)
        target = f"{wire.SERVICE}?call_direction=dial_in&protocol=sip&local_alias={alias}"
        while time.perf_counter() < ends:
            calls.append(await connection.ask(alias, target))
            await asyncio.sleep(pause)
        connection.close()

    await asyncio.gather(*map(one, aliases))
    return calls


def _wrong_needing(calls: Sequence[Call]) -> list[str]:
    wrong = [f"{c.kind}: status {c.status} {c.body[:80]}" for c in calls if c.status != 200]
    wrong += [f"{c.kind}: a bad decision got through" for c in calls if str(BAD["name"]) in c.body]
    late = [c for c in calls if c.seconds > TIMEOUT + SLACK]
    wrong += [f"{c.kind}: {c.seconds:.2f} s, and its timeout is {TIMEOUT:g} s" for c in late]
    return wrong[:5]


def _wrong_others(calls: Sequence[Call], limit: float) -> list[str]:
    room = '"name":"Room"'
    wrong = [f"others: {c.status} {c.body[:80]}" for c in calls if room not in c.body]
    wrong += [f"others: {c.seconds:.2f} s" for c in calls if c.seconds > limit]
    return wrong[:5]
