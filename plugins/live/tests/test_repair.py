"""The repair in a server, and when it is due."""

import asyncio
import json
import random
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pexpolicy import Store
from pexpolicy.background.shared_state import SqliteState
from pexpolicy.events.receiver import Inbox
from pexpolicy.testing import ManagementApi, Simulator
from pexpolicy_live.repair import Known, Repair
from tests.support import live_server, wire
from tests.support.waiting import wait_until

SINK = wire.basic("sink", "of the platform")
CONFIG = """
[server]
state_dir = "state"
[audit]
path = "audit.jsonl"
[events]
user = "sink"
password_file = "password"
[plugins.live]
"""
SOURCE = """
[sources.mgr]
driver = "infinity"
url = "{}"
user = "reader"
password_file = "password"
[infinity]
source = "mgr"
"""


async def test_a_gap_is_repaired_and_the_source_is_fresh_again(tmp_path: Path) -> None:
    platform = Simulator(random.Random(3), start=time.time() - 600, nodes=["10.44.0.1"])
    gone = platform.join("red", "sip")
    platform.join("red", "webrtc", role="chair")
    bodies = list(platform.events)
    platform.leave(gone)
    platform.join("blue", "h323")
    last = platform.events[-1]  # what is between is lost

    def watch(url: str) -> None:
        config = tmp_path / "config.toml"
        config.write_text(CONFIG)
        with live_server.running(config) as server:
            for body in [*bodies, last]:
                content = json.dumps(body).encode()
                head = {"Content-Length": str(len(content)), **SINK}
                message = wire.request_bytes("/events/v1", "POST", head) + content
                assert asyncio.run(wire.send(server.port, message)).status == 200
            counts = "/plugins/live/"
            wait_until(lambda: "blue" in server.operator(counts).json["services"])
            assert server.operator(counts).json["stale"]
        config.write_text(CONFIG + SOURCE.format(url))
        with live_server.running(config) as server:
            wait_until(lambda: not server.operator(counts).json["stale"])
            found = server.operator(counts).json["services"]
            assert {name: tuple(one.values()) for name, one in found.items()} == platform.truth()
            nodes = server.operator("/status").json["events"]["nodes"]
            assert [one["stale_since"] for one in nodes] == [None]

    api = ManagementApi(platform)
    (tmp_path / "password").write_text("of the platform")
    async with api.serving() as url:
        await asyncio.to_thread(watch, url)
    assert len([path for path in api.paths if "participant" in path]) == 1


async def test_a_repair_is_due_at_the_start_after_a_gap_and_now_and_then(tmp_path: Path) -> None:
    now, stale_since, asked = 1000.0, 0.0, []

    class Api:
        async def objects(self, resource: str, api: str) -> list[dict[str, Any]]:
            asked.append(now)
            if now == 1060:
                raise OSError("the API is down")
            return []

    async def snapshot(source: str, uuids: Iterable[str]) -> Known:
        return Known({}, {})

    state = SqliteState(tmp_path / "shared.sqlite", 5.0)
    inbox, runs = Inbox(), Store("repairs", float)
    calls = lambda _: stale_since, lambda *_: None
    repair = Repair("default", Api(), snapshot, *calls, inbox, runs)
    repair.clock = lambda: now
    repair.sleep = lambda _: asyncio.sleep(0)
    for item in (inbox, runs):
        item.bind("live", state)
    for now in range(1000, 3000, 10):
        stale_since = 1005.0 if 1010 <= now < 1150 else 0.0
        if now == 1060:
            with pytest.raises(OSError, match="down"):
                await repair.run_if_due()
        else:
            await repair.run_if_due()
    await state.close()
    assert asked[:3] == [1000, 1060, 1120]
    pauses = [later - before for before, later in pairwise(asked[2:])]
    assert pauses
    assert all(480 <= one <= 610 for one in pauses)
