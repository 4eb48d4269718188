"""Reloads of a plugin with refreshed data, a source and a job, also while the API is down."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lab.reloads.steady import LoadResult, decision_of, steady_load
from pexpolicy.server.reload_triggers import ask_for_reload
from tests.support import drivers, live_server

CONFIG = """
plugin_dirs = ["plugins"]
[audit]
path = "audit.jsonl"
[sources.people]
driver = "people"
url = "source {source}"
[plugins.listed]
timeout = 4.0
[plugins.listed.settings]
api = "{api}"
first = "{first}"
people = "people"
number = {number}
"""
PLUGIN = """
import asyncio
import gc
import time
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp

from pexpolicy import Conference, PluginSettings, Refreshed, Source, hookimpl, schedule


class Listed:
    class Settings(PluginSettings):
        api: str
        first: Literal["required", "stale"]
        people: Source[Any]
        number: int

    def __init__(self, settings):
        self.settings = settings
        self.names = Refreshed(
            self.fetch, every=1.0, first=settings.first, key=settings.api, timeout=1.0, name="names"
        )
        self.runs = 0
        schedule(self.tidy, every=0.1)

    @hookimpl
    @asynccontextmanager
    async def lifespan(self):
        async with aiohttp.ClientSession() as self.client:
            yield

    async def fetch(self):
        async with self.client.get(self.settings.api) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def tidy(self):
        self.runs += 1

    @hookimpl
    async def service_configuration(self, request):
        assert self.settings.people.opened
        await asyncio.sleep(0.002)
        return Conference(name=self.names.value["room"], service_tag="listed")

    @hookimpl
    async def status(self):
        # The threads of the event loop start when they are needed, up to a limit.
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.02) for _ in range(12)))
        gc.unfreeze()
        gc.collect()
        found = gc.get_objects()
        gc.freeze()
        tasks = sum(isinstance(one, asyncio.Task) and not one.done() for one in found)
        plugins = sum(type(one).__name__ == "Listed" for one in found)
        return {"tasks": tasks, "plugins": plugins}
"""
ANSWER = "Sales"
PAUSE_S = 0.02
SETTLE_S = 1.0
IN_FLIGHT = 2
"""Descriptors, and threads, of fetches that may run while they are counted; a leak is one for each
reload.
"""


@dataclass(frozen=True)
class Counts:
    """What a server holds while no call is in flight."""

    descriptors: int
    threads: int
    tasks: int
    plugins: int


@dataclass(frozen=True)
class Reloaded:
    """The result. ``done`` counts reloads that were not refused, ``names`` the decisions."""

    what: str
    reloads: int
    done: int
    load: LoadResult
    names: Counter[str]
    before: Counts
    after: Counts
    opened: int
    closed: int

    @property
    def wrong(self) -> bool:
        return bool(
            self.load.failed
            or self.load.late
            or self.names.keys() != {ANSWER}
            or self.after.descriptors > self.before.descriptors + IN_FLIGHT
            or self.after.threads > self.before.threads + IN_FLIGHT
            or self.after.tasks > self.before.tasks
            or self.after.plugins != 1
            or self.opened - self.closed != 1
        )

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.reloads} reloads, {self.done} done; {self.load.summary}; "
            f"decisions {dict(self.names)}; {self.before} before, {self.after} after; "
            f"source opened "
            f"{self.opened} times and closed {self.closed} times before the end"
        )


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"room": ANSWER}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that went away is no error: reloads close their clients."""


@contextmanager
def _api() -> Iterator[ThreadingHTTPServer]:
    """Answer on a free port, in threads."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        _kill(server)
        thread.join()


def _kill(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


async def reload_with_background(
    folder: Path, reloads: int, first: str, *, down: bool, warm_up: int = 20
) -> Reloaded:
    """Reload under load; with ``down``, the API is killed before.

    Each tenth reload changes the table of the source. The first count follows ``warm_up`` reloads.
    """
    (folder / "plugins").mkdir()
    (folder / "plugins" / "listed.py").write_text(PLUGIN)
    (folder / "site").mkdir()
    log = drivers.install(folder / "site", "drivers_of_reloads")
    environment = {"PYTHONPATH": str(folder / "site")}
    done = 0
    with _api() as api:

        async def reload(number: int) -> bool:
            _put(folder, api.server_port, first, number)
            (result,) = await asyncio.to_thread(ask_for_reload, folder / "config.toml")
            assert result is not None, "the server is gone"
            await asyncio.sleep(PAUSE_S)
            return result.done

        _put(folder, api.server_port, first, 0)
        with live_server.running(folder / "config.toml", environment=environment) as server:
            for number in range(warm_up):
                assert await reload(number)
            before = await _counts(server)
            if down:
                _kill(api)
            async with steady_load(server.port) as load:
                for number in range(warm_up, warm_up + reloads):
                    done += await reload(number)
            after = await _counts(server)
            lines = log.read_text().splitlines()
    names = Counter(decision_of(call)[1] for call in load.calls if call.status == 200)
    opened, closed = (sum(line.startswith(what) for line in lines) for what in ("opened", "closed"))
    what = f"API {'killed' if down else 'alive'}, first = {first}"
    return Reloaded(what, reloads, done, load, names, before, after, opened, closed)


async def _counts(server: live_server.Running) -> Counts:
    """Count when the last generation has drained and idle connections are closed."""
    await asyncio.sleep(SETTLE_S)
    plugin: dict[str, Any] = {}
    while "status" not in plugin:  # on a busy machine it may not be there within a second
        document: Any = (await asyncio.to_thread(server.operator, "/status")).json
        (plugin,) = document["plugins"]
    process = Path(f"/proc/{server.pid}")
    return Counts(
        len(list((process / "fd").iterdir())),
        len(list((process / "task").iterdir())),
        **plugin["status"],
    )


def _put(folder: Path, port: int, first: str, number: int) -> None:
    other = folder / "config.new"
    api = f"http://127.0.0.1:{port}/names"
    other.write_text(CONFIG.format(api=api, first=first, number=number, source=number // 10))
    other.replace(folder / "config.toml")
