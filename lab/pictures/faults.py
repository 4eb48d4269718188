"""Calls while the web server of the plugin `avatars` is frozen, and killed."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp.test_utils import unused_port

from tests.support import live_server, wire

CONFIG = """
[audit]
path = "audit.jsonl"

[plugins.avatars.settings]
max_age = {max_age}

[plugins.avatars.settings.http]
url = "http://127.0.0.1:{port}/{{alias}}"
"""
PEOPLE = 1500
CALLS_PER_SECOND = 200
MAX_AGE_S = 6.0
FAULT_S = 5.0
"""Seconds of each fault, and of the time between them."""


@dataclass
class Report:
    """The figures of a run."""

    calls: int = 0
    pictures: int = 0
    """Replies with a picture."""
    stale: int = 0
    """Pictures while the web server did not answer, from the cache."""
    longest: float = 0.0
    """Seconds of the longest call."""
    recovery: float = 0.0
    """Seconds from the end of a fault to the last call without a picture that began after it."""
    faults: list[tuple[float, float]] = field(default_factory=list)


class PhotoServer:
    """The process of the web server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        module = "lab.pictures.photo_server"
        return subprocess.Popen((sys.executable, "-m", module, str(self._port)))

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        self._process = self._started()


async def until_listening(port: int) -> None:
    """Wait until a connection is accepted."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def _load(url: str, photos: PhotoServer, port: int) -> Report:
    report = Report()
    replies: list[tuple[float, float, int]] = []
    choose = random.Random(1)

    async def call(session: aiohttp.ClientSession) -> None:
        began = time.monotonic()
        alias = f"user-{choose.randrange(PEOPLE)}%40example.com"
        async with session.get(f"{url}{wire.AVATAR}{alias}?width=100&height=100") as reply:
            await reply.read()
            replies.append((began, time.monotonic() - began, reply.status))

    async def fault(begin: Callable[[], None], end: Callable[[], None]) -> None:
        await asyncio.sleep(FAULT_S)
        began = time.monotonic()
        begin()
        await asyncio.sleep(FAULT_S)
        end()
        await until_listening(port)
        report.faults.append((began, time.monotonic()))

    async def faults() -> None:
        await fault(photos.freeze, photos.thaw)
        await fault(photos.kill, photos.start)
        await asyncio.sleep(FAULT_S)

    await until_listening(port)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(faults())
        while not running.done():
            tasks.create_task(call(session))
            await asyncio.sleep(1 / CALLS_PER_SECOND)
    report.calls = len(replies)
    report.longest = max(seconds for _, seconds, _ in replies)
    for began, seconds, status in replies:
        if status == 200:
            report.pictures += 1
            report.stale += any(a < began and began + seconds < b for a, b in report.faults)
            continue
        ended = max((end for _, end in report.faults if end <= began), default=None)
        if ended is not None and not any(a <= began <= b for a, b in report.faults):
            report.recovery = max(report.recovery, began - ended)
    return report


def run(folder: Path) -> Report:
    """Return the figures of a server under load."""
    port = unused_port()
    config = folder / "config.toml"
    config.write_text(CONFIG.format(port=port, max_age=MAX_AGE_S))
    photos = PhotoServer(port)
    try:
        with live_server.running(config, folder=folder) as server:
            return asyncio.run(_load(server.url, photos, port))
    finally:
        photos.kill()
