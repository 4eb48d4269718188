"""Reloads under load: no call fails, none is late, and no reply is made of two configurations."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from lab.reloads.steady import LoadResult, decision_of, steady_load
from pexpolicy.server.reload_triggers import ask_for_reload
from tests.support import live_server

CONFIG = """
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
CALL_PAUSE_S = 0.05
"""Seconds between two reloads."""


@dataclass(frozen=True)
class Swapped:
    """What came of it. ``mixed`` holds the replies that are of no one configuration."""

    reloads: int
    load: LoadResult
    mixed: list[str]

    @property
    def wrong(self) -> bool:
        return bool(self.load.failed or self.load.late or self.mixed)

    def __str__(self) -> str:
        return f"{self.reloads:,} reloads, {self.load.summary}, {len(self.mixed)} mixed"


async def swap(folder: Path, reloads: int, *arguments: str) -> Swapped:
    """Reload again and again while calls are answered; ``arguments`` are those of the server."""
    (folder / "plugins").mkdir()
    for remainder, name in enumerate(("even", "odd")):
        (folder / "plugins" / f"{name}.py").write_text(PLUGIN.format(remainder=remainder))
    put(folder, 0)
    hashes: dict[str, str] = {}
    with live_server.running(folder / "config.toml", *arguments) as server:
        async with steady_load(server.port) as load:
            for number in range(1, reloads + 1):
                put(folder, number)
                (result,) = await asyncio.to_thread(ask_for_reload, folder / "config.toml")
                assert result is not None, "the server is gone"
                assert result.done, result.problems
                hashes[result.config_hash] = str(number)
                await asyncio.sleep(CALL_PAUSE_S)
        lines = {line["decision_id"]: line for line in server.lines()}
    mixed: list[str] = []
    for call in load.calls:
        decision_id, name = decision_of(call)
        line = lines[decision_id]
        # The first configuration was not reloaded, so its hash is in no reply.
        known = hashes.get(line["config_hash"], "0")
        by = "odd" if int(known) % 2 else "even"
        if known != name or line["decided_by"] != by:
            mixed.append(f"{name!r} of configuration {known}, {line['steps']}")
    return Swapped(reloads, load, mixed)


def put(folder: Path, number: int) -> None:
    """Put a configuration in the place of the one before."""
    other = folder / "config.new"
    other.write_text(CONFIG.format(number=number))
    other.replace(folder / "config.toml")
