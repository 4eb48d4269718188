"""The four walks and the number of files that each may enter.

Each walk is recorded twice and only what both entered counts: first imports and timers do not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from click.testing import CliRunner

from lab.walks.recorder import Walk
from pexpolicy.builder import policy_from
from pexpolicy.cli.explain import explain
from pexpolicy.server.http.listener import bind
from pexpolicy.server.lifecycle import Server, ServerContext, started
from pexpolicy.server.process import ShutdownSignal
from pexpolicy.server.reload_triggers import ReloadTriggers
from tests.support import weight, wire
from tests.support.fake_plugins import Log
from tests.support.paths import ROOT

MAX_FILES: Mapping[str, int] = weight.ceilings()["walks"]
"""Files of the package that each walk may enter."""
DROP_IN = """
from pexpolicy import Conference, hookimpl

class Plugin:
    @hookimpl
    def service_configuration(self, request):
        return Conference(name="a room", service_tag="x")
"""


def shipped(folder: Path) -> Path:
    """Write the shipped configuration, which has an audit file; return its path."""
    config = folder / "config.toml"
    config.write_text((ROOT / "config.toml").read_text("utf-8"), "utf-8")
    return config


@asynccontextmanager
async def serving(config: Path) -> AsyncIterator[tuple[Server, ServerContext, ShutdownSignal]]:
    """Serve a configuration on a free port of this process."""
    policy, stop = policy_from(config), ShutdownSignal()
    context = ServerContext(
        config, lambda content: policy_from(config, content=content), Log(), lambda _: None
    )
    async with started(policy, bind("127.0.0.1", 0), stop, context) as server:
        yield server, context, stop


async def call(folder: Path) -> Walk:
    """Record a call on a known connection."""
    request = wire.request_bytes(
        f"{wire.SERVICE}?local_alias=engineering", "GET", {"Connection": "keep-alive"}
    )
    async with serving(shipped(folder)) as (server, _, _):
        port = int(server.announcement.split()[4].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def ask() -> None:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            await reader.readexactly(length)

        await ask()
        walks = [Walk(), Walk()]
        for walk in walks:
            with walk.recording():
                await ask()
        writer.close()
    return walks[0].common(walks[1])


async def reload(folder: Path) -> Walk:
    """Record a reload, until the previous generation is closed."""
    config = shipped(folder)
    walks = [Walk(), Walk()]
    async with serving(config) as (server, context, stop):
        triggers = ReloadTriggers(config, server.reloader.reload, stop, Log(), context.echo)
        async with triggers.active([config], time.time()):
            for walk in walks:
                with walk.recording():
                    result = await triggers.reload()
                    await asyncio.sleep(0.2)
                assert result.done, result.problems
    return walks[0].common(walks[1])


async def plugin(folder: Path) -> Walk:
    """Record the loading of a drop-in plugin."""
    (folder / "plugins").mkdir()
    (folder / "plugins" / "dropped.py").write_text(DROP_IN)
    config = folder / "config.toml"
    config.write_text('plugin_dirs = ["plugins"]\n[plugins.dropped]\n')
    walks = [Walk(), Walk()]
    for walk in walks:
        with walk.recording():
            policy_from(config).close()
    return walks[0].common(walks[1])


async def explanation(folder: Path) -> Walk:
    """Record ``pexpolicy explain``."""
    arguments = [f"{wire.SERVICE}?local_alias=engineering", "--config", str(shipped(folder))]

    def run() -> Walk:
        walk = Walk()
        with walk.recording():
            result = CliRunner().invoke(explain, arguments)
        assert result.exit_code == 0, result.output
        return walk

    # The command runs an event loop of its own.
    return (await asyncio.to_thread(run)).common(await asyncio.to_thread(run))


WALKS: Mapping[str, Callable[[Path], Coroutine[None, None, Walk]]] = {
    "call": call,
    "reload": reload,
    "plugin": plugin,
    "explain": explanation,
}
