"""Workers killed under load: each is replaced, and only calls of the killed one are lost."""

import asyncio
import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path

from lab.reloads.steady import CONNECTIONS, LoadResult, decision_of, steady_load
from tests.server.test_reload import written
from tests.server.workers.test_workers import children
from tests.support import live_server

REPLACEMENT_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Killed:
    """The result. ``unrecorded`` counts replies without an audit line, ``unreplaced`` killed
    workers without a replacement."""

    kills: int
    load: LoadResult
    unrecorded: int
    unreplaced: int
    longest: float

    @property
    def wrong(self) -> bool:
        lost = len(self.load.failed)
        return bool(
            self.unrecorded or self.unreplaced or self.load.late or lost > self.kills * CONNECTIONS
        )

    def __str__(self) -> str:
        return (
            f"{self.kills} workers killed: {self.unreplaced} not replaced, the slowest after "
            f"{self.longest:.1f} s; {self.load.summary}; {self.unrecorded} replies without a line"
        )


async def kill(folder: Path, kills: int, seed: int) -> Killed:
    """Kill one of two workers repeatedly, each time after the last one was replaced."""
    config = folder / "config.toml"
    config.write_text(written("room"))
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    unreplaced, longest = 0, 0.0
    with live_server.running(config, "--workers", "2") as server:
        async with steady_load(server.port) as load:
            for _ in range(kills):
                workers = children(server.pid)
                os.kill(chance.choice(sorted(workers)), signal.SIGKILL)
                began = loop.time()
                while len(children(server.pid) - workers) < 1:
                    if loop.time() - began > REPLACEMENT_TIMEOUT_S:
                        unreplaced += 1
                        break
                    await asyncio.sleep(0.02)
                longest = max(longest, loop.time() - began)
                await asyncio.sleep(chance.uniform(0.3, 0.8))
        recorded = {line["decision_id"] for line in server.lines()}
    answered = [decision_of(call)[0] for call in load.calls if call.status == 200]
    unrecorded = sum(decision_id not in recorded for decision_id in answered)
    return Killed(kills, load, unrecorded, unreplaced, longest)
