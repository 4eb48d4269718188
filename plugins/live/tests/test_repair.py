"""The repair in a server, and when it is due."""

import asyncio
import json
import random
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from pexpolicy.background.shared_state import SqliteState
from pexpolicy.events import SourceStale
from pexpolicy.models.context import DryRunClock
from pexpolicy.testing import ManagementApi, Simulator, make_policy
from pexpolicy_live import Live, plugin
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
OTHER = """
[environments.east]
networks = ["10.0.0.0/8"]
events = "default"
infinity.source = "other"
[sources.other]
driver = "infinity"
url = "https://other.example.com"
user = "a"
password_file = "password"
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


async def test_a_repair_is_due_at_the_start_after_a_gap_and_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    class Api:
        async def objects(self, resource: str) -> list[dict[str, Any]]:
            asked.append(clock.at or 0.0)
            if clock.at == 1060:
                raise OSError("the API is down")
            return []

    clock, state = DryRunClock(), SqliteState(tmp_path / "shared.sqlite", 5.0)
    monkeypatch.setattr(plugin, "SETTLE_S", 0.0)
    (built,) = make_policy(Live).plugins
    for item in built.shared:
        item.bind("live", state)
    live = cast("Live", built.instance)
    live._clock = clock
    where: dict[str, Any] = {"source": "default", "node": "n", "event": "source_stale", "seq": 0}
    for now in range(1000, 3000, 60):
        clock.at = float(now)
        if now in (1060, 1180):
            gap = SourceStale(**where, time=now, received=now, why="a", is_stale=now == 1060)
            await live.on_events([gap])
            await live.read()
        if now == 1060:
            with pytest.raises(OSError, match="down"):
                await live.repair_if_due("default", Api())
        else:
            await live.repair_if_due("default", Api())
    await state.close()
    assert asked[:3] == [1000, 1060, 1120]
    pauses = [later - before for before, later in pairwise(asked[2:])]
    assert pauses
    assert all(480 <= one <= 610 for one in pauses)


@pytest.mark.parametrize(
    ("events", "more", "jobs"),
    [
        ("[events]", "", ["repair default"]),
        ("[events.one]", "", ["repair one"]),
        ('[events.one]\nuser = "a"\npassword_file = "password"\n[events.two]', "", []),
        (
            "[events.east]",
            '[environments.east]\nnetworks = ["10.0.0.0/8"]\ninfinity.source = "mgr"\n',
            ["repair east"],
        ),
        # Two platforms, the API of one of which lists all people.
        (
            "[events]",
            OTHER,
            [],
        ),
    ],
)
def test_the_events_that_are_repaired_are_those_of_the_platform(
    events: str, more: str, jobs: list[str], tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("a password")
    source = SOURCE.format("https://mgr.example.com")
    text = CONFIG.replace("[events]", events) + source.replace(
        'source = "mgr"', "" if '"mgr"' in more else 'source = "mgr"'
    )
    (tmp_path / "config.toml").write_text(text + more)
    (built,) = make_policy(tmp_path / "config.toml").plugins
    assert [job.name for job in built.jobs if job.name.startswith("repair")] == jobs
