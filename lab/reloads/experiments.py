"""Reloads under load, of a large configuration too, and workers that are killed."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

from lab.load import load
from lab.report import Finding
from pexpolicy.server.reload_triggers import ask_for_reload
from tests.server.test_reload import written
from tests.support import live_server
from tests.support.processes import children
from tests.support.waiting import until

SWAPPED = """
plugin_dirs = ["plugins"]
[audit]
path = "audit.jsonl"
[plugins.odd]
priority = 1
timeout = 4.0
settings.number = {number}
[plugins.even]
priority = 2
timeout = 4.0
settings.number = {number}
"""
PLUGIN = """
import asyncio
from pexpolicy import Conference, PluginSettings, hookimpl

class Numbered:
    class Settings(PluginSettings):
        number: int

    def __init__(self, settings):
        self.number = settings.number

    @hookimpl
    async def service_configuration(self, request):
        await asyncio.sleep(0.002)
        if self.number % 2 != {remainder}:
            return None
        return Conference(name=str(self.number), service_tag="x")
"""
"""Odd numbers are answered by the one plugin and even ones by the other: a call that asked the one
of one configuration and the other of the next would get an answer that neither gives.
"""
HEAD = """
[audit]
path = "audit.jsonl"
[plugins.rooms.settings.rooms.room]
name = "Room {number}"
service_tag = "room"
"""
TABLE = """
[plugins.rooms.settings.rooms."room{place:07}@example.com"]
name = "Room {place:07}"
service_tag = "tag-{place:07}"
"""
PAUSE_S = 0.05
"""Seconds between two reloads."""
CLEANUP_S = 1.0
"""Seconds after each large reload, in which the old rooms are deallocated."""
CONNECTIONS = 16


def put(config: Path, text: str) -> None:
    """Put a configuration in the place of the one before."""
    other = config.with_suffix(".new")
    other.write_text(text)
    other.replace(config)


async def reload(config: Path) -> str:
    """Reload; return the hash of the configuration."""
    (result,) = await asyncio.to_thread(ask_for_reload, config)
    assert result is not None, "the server is gone"
    assert result.done, result.problems
    return result.policy_hash


async def swap(folder: Path, reloads: int, *arguments: str) -> Finding:
    """Reload again and again while calls are answered; ``arguments`` are those of the server."""
    finding = Finding(" ".join(("reloads", *arguments)), f"{reloads} reloads")
    (folder / "plugins").mkdir()
    for remainder, name in enumerate(("even", "odd")):
        (folder / "plugins" / f"{name}.py").write_text(PLUGIN.format(remainder=remainder))
    put(config := folder / "config.toml", SWAPPED.format(number=0))
    hashes: dict[str, str] = {}
    with live_server.running(config, *arguments) as server:
        async with load(server.port, CONNECTIONS) as calls:
            for number in range(1, reloads + 1):
                put(config, SWAPPED.format(number=number))
                hashes[await reload(config)] = str(number)
                await asyncio.sleep(PAUSE_S)
        lines = {line.get("decision_id"): line for line in server.lines()}
    for call in calls.answered:
        line = lines[call.json["decision_id"]]
        # The first configuration was not reloaded, so its hash is in no reply.
        known, name = hashes.get(line["policy_hash"], "0"), call.json["result"]["name"]
        by = "odd" if int(known) % 2 else "even"
        mixed = f"{name!r} of configuration {known}, {line['steps']}"
        finding.expect((known, by) == (name, line["decided_by"]), mixed)
    return finding.of(calls)


async def reload_large(folder: Path, rooms: int, reloads: int) -> Finding:
    """Reload a configuration with ``rooms`` rooms while calls are answered."""
    finding = Finding(f"reloads of {rooms:,} rooms", f"{reloads} reloads")
    tables = "".join(TABLE.format(place=place) for place in range(rooms))
    put(config := folder / "config.toml", HEAD.format(number=0) + tables)
    longest = 0.0
    with live_server.running(config) as server:
        async with load(server.port, CONNECTIONS) as undisturbed:
            await asyncio.sleep(3 * CLEANUP_S)
        async with load(server.port, CONNECTIONS) as calls:
            for number in range(1, reloads + 1):
                await asyncio.to_thread(put, config, HEAD.format(number=number) + tables)
                began = time.monotonic()
                await reload(config)
                longest = max(longest, time.monotonic() - began)
                await asyncio.sleep(CLEANUP_S)
    finding.notes += [f"up to {longest:.1f} s each", f"undisturbed: {undisturbed.summary}"]
    return finding.of(calls)


async def kill(folder: Path, kills: int, seed: int) -> Finding:
    """Kill one of two workers repeatedly, each time after the last one was replaced: only calls of
    the killed one are lost.
    """
    finding = Finding("killed workers", f"{kills} SIGKILL")
    put(config := folder / "config.toml", written("room"))
    chance = random.Random(seed)
    with live_server.running(config, "--workers", "2") as server:
        async with load(server.port, CONNECTIONS) as calls:
            for _ in range(kills):
                workers = children(server.pid)
                os.kill(chance.choice(sorted(workers)), signal.SIGKILL)
                await until(lambda: len(children(server.pid) - workers) == 1)  # noqa: B023
                await asyncio.sleep(chance.uniform(0.3, 0.8))
        recorded = {line.get("decision_id") for line in server.lines()}
    unrecorded = sum(decision_id not in recorded for decision_id in calls.ids)
    finding.expect(not unrecorded, f"{unrecorded} replies have no audit line")
    return finding.of(calls, may_fail=kills * CONNECTIONS)
