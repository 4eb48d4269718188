"""A large configuration reloaded under load: how long it takes, and how long calls wait for it."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from pexpolicy.server.reload.control_socket import ask_for_reload
from tests.experiments.reloads.steady import Heard, asked
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
REST = 1.0
"""Seconds behind each reload, in which the old rooms are cleared away."""


@dataclass(frozen=True)
class Large:
    """The calls while rooms were reloaded, and beside it while nothing happened."""

    rooms: int
    reloads: int
    seconds: float
    """What the longest reload took."""
    heard: Heard
    undisturbed: Heard

    @property
    def wrong(self) -> bool:
        return bool(self.heard.failed or self.heard.late)

    def __str__(self) -> str:
        return (
            f"{self.reloads} reloads of {self.rooms:,} rooms, up to {self.seconds:.1f} s each: "
            f"{self.heard.summary}; undisturbed p99 {self.undisturbed.within(0.99):.1f} ms, "
            f"longest {self.undisturbed.within(1.0):.0f} ms"
        )


async def reload_many(folder: Path, rooms: int, reloads: int) -> Large:
    """Reload a configuration of so many rooms while calls are answered."""
    config = folder / "config.toml"
    tables = "".join(TABLE.format(place=place) for place in range(rooms))
    config.write_text(HEAD.format(number=0) + tables)
    longest = 0.0
    with live_server.running(config) as server:
        async with asked(server.port) as undisturbed:
            await asyncio.sleep(3 * REST)
        async with asked(server.port) as heard:
            for number in range(1, reloads + 1):
                other = config.with_suffix(".new")
                await asyncio.to_thread(other.write_text, HEAD.format(number=number) + tables)
                other.replace(config)
                began = time.monotonic()
                (result,) = await asyncio.to_thread(ask_for_reload, config)
                assert result is not None
                assert result.done, result.problems
                longest = max(longest, time.monotonic() - began)
                await asyncio.sleep(REST)
    return Large(rooms, reloads, longest, heard, undisturbed)
