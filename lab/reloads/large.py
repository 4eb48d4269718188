"""Reloads of a large configuration under load: their duration, and that of the calls."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from lab.reloads.steady import LoadResult, steady_load
from pexpolicy.server.reload_triggers import ask_for_reload
from tests.support import live_server

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
CLEANUP_S = 1.0
"""Seconds after each reload in which the old rooms are deallocated."""


@dataclass(frozen=True)
class Large:
    """The calls during reloads and without reloads."""

    rooms: int
    reloads: int
    seconds: float
    """Duration of the longest reload."""
    load: LoadResult
    undisturbed: LoadResult

    @property
    def wrong(self) -> bool:
        return bool(self.load.failed or self.load.late)

    def __str__(self) -> str:
        return (
            f"{self.reloads} reloads of {self.rooms:,} rooms, up to {self.seconds:.1f} s each: "
            f"{self.load.summary}; undisturbed p99 {self.undisturbed.percentile(0.99):.1f} ms, "
            f"longest {self.undisturbed.percentile(1.0):.0f} ms"
        )


async def reload_many(folder: Path, rooms: int, reloads: int) -> Large:
    """Reload a configuration with ``rooms`` rooms while calls are answered."""
    config = folder / "config.toml"
    tables = "".join(TABLE.format(place=place) for place in range(rooms))
    config.write_text(HEAD.format(number=0) + tables)
    longest = 0.0
    with live_server.running(config) as server:
        async with steady_load(server.port) as undisturbed:
            await asyncio.sleep(3 * CLEANUP_S)
        async with steady_load(server.port) as load:
            for number in range(1, reloads + 1):
                other = config.with_suffix(".new")
                await asyncio.to_thread(other.write_text, HEAD.format(number=number) + tables)
                other.replace(config)
                began = time.monotonic()
                (result,) = await asyncio.to_thread(ask_for_reload, config)
                assert result is not None
                assert result.done, result.problems
                longest = max(longest, time.monotonic() - began)
                await asyncio.sleep(CLEANUP_S)
    return Large(rooms, reloads, longest, load, undisturbed)
