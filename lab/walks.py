"""Walks: the parts of the package that a call, a reload, a plugin and ``explain`` pass through.

``python -m lab.walks`` prints the files of each walk, and exits 1 if one enters too many; ``-v``
prints their functions. Each walk is recorded twice and only what both entered counts: first
imports and timers do not. It runs in a process of its own, because the end of a server limits the
time of its process.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from click.testing import CliRunner

from pexpolicy.builder import policy_from
from pexpolicy.cli.explain import explain
from pexpolicy.errors import PACKAGE_ROOT
from pexpolicy.fleet.policy_hash import prepare_state_dir
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


@dataclass
class Walk:
    """The functions that were entered, as (file, qualified name), in order of the first entry."""

    functions: dict[tuple[str, str], None] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """The files of the package, relative to it."""
        return list(dict.fromkeys(file for file, _ in self.functions))

    def common(self, other: Walk) -> Walk:
        """Return what both walks entered, leaving out what only one of them did."""
        return Walk({name: None for name in self.functions if name in other.functions})

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(PACKAGE_ROOT):
            path = file.removeprefix(PACKAGE_ROOT).lstrip("/")
            self.functions.setdefault((path, frame.f_code.co_qualname))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record in this thread and in threads that start meanwhile."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def shipped(folder: Path) -> Path:
    """Write the shipped configuration, which has an audit file; return its path."""
    config = folder / "config.toml"
    config.write_text((ROOT / "config.toml").read_text("utf-8"), "utf-8")
    return config


@asynccontextmanager
async def serving(config: Path) -> AsyncIterator[tuple[Server, ServerContext, ShutdownSignal]]:
    """Serve a configuration on a free port of this process."""
    policy, stop = policy_from(config), ShutdownSignal()
    # As the command does: without the folder, a reload would describe why it keeps nothing.
    prepare_state_dir(policy.settings)
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


def main() -> int:
    """Record the walk that is named, or all of them; ``-v`` prints the functions."""
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    names = [word for word in sys.argv[1:] if word in WALKS]
    if len(names) == 1:
        return show(names[0], verbose="-v" in options)
    command = [sys.executable, "-m", "lab.walks", *options]
    return max([subprocess.run([*command, name], check=False).returncode for name in WALKS])


def show(name: str, *, verbose: bool) -> int:
    """Record and print one walk; return 1 if it enters too many files."""
    with tempfile.TemporaryDirectory(prefix="walks-") as folder:
        walk = asyncio.run(WALKS[name](Path(folder)))
    limit, files = MAX_FILES[name], walk.files
    places = ", ".join(dict.fromkeys(file.partition("/")[0] for file in files))
    sys.stdout.write(
        f"{name}: {len(files)} files (at most {limit}), {len(walk.functions)} functions: {places}\n"
    )
    for file in walk.files if verbose else ():
        functions = [function for where, function in walk.functions if where == file]
        sys.stdout.write(f"    {file}: {', '.join(functions)}\n")
    sys.stdout.flush()
    return 1 if len(files) > limit else 0


if __name__ == "__main__":
    sys.exit(main())
