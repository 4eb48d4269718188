"""Reloads of a plugin with refreshed data, a source and a job, also while the API is down."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from lab.load import load
from lab.reloads.experiments import CONNECTIONS, put
from lab.report import Finding
from pexpolicy.server.reload_triggers import ask_for_reload
from tests.support import drivers, live_server, upstream_servers

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
AIR = (2, 2, 0, 0)
"""Descriptors, and threads, of fetches that may run while they are counted; a leak is one for each
reload.
"""


class Counts(NamedTuple):
    """What a server holds while no call is in flight."""

    descriptors: int
    threads: int
    tasks: int
    plugins: int


async def reload_with_background(
    folder: Path, reloads: int, first: str, *, down: bool, warm_up: int = 20
) -> Finding:
    """Reload under load; with ``down``, the API is killed before.

    Each tenth reload changes the table of the source. The first count follows ``warm_up`` reloads.
    """
    state = "killed" if down else "alive"
    finding = Finding(f"API {state}, first = {first}", f"{reloads} reloads")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "listed.py").write_text(PLUGIN)
    (folder / "site").mkdir()
    log = drivers.install(folder / "site", "drivers_of_reloads")
    environment = {"PYTHONPATH": str(folder / "site")}
    config = folder / "config.toml"
    async with AsyncExitStack() as life, AsyncExitStack() as life_of_api:
        replies = upstream_servers.always(upstream_servers.reply({"room": ANSWER}))
        api = await life_of_api.enter_async_context(upstream_servers.answering(replies))

        def write(number: int) -> None:
            place = {"api": f"{api.url}/names", "source": number // 10}
            put(config, CONFIG.format(first=first, number=number, **place))

        async def reload(number: int) -> bool:
            write(number)
            (result,) = await asyncio.to_thread(ask_for_reload, config)
            assert result is not None, "the server is gone"
            await asyncio.sleep(PAUSE_S)
            return result.done

        write(0)
        # In a thread, as the server asks the API when it starts.
        running = live_server.running(config, environment=environment)
        server = await asyncio.to_thread(life.enter_context, running)
        for number in range(warm_up):
            assert await reload(number)
        before = await asyncio.to_thread(_counts, server)
        if down:
            await life_of_api.aclose()
        async with load(server.port, CONNECTIONS) as calls:
            done = sum([await reload(number) for number in range(warm_up, warm_up + reloads)])

        def is_nothing_left() -> bool:
            after = _counts(server)
            lines = log.read_text().splitlines()
            opened, closed = (sum(x.startswith(how) for x in lines) for how in ("opened", "closed"))
            finding.notes.append(f"{before} before, {after} after; {opened} sources opened")
            leaked = any(now > was + air for was, now, air in zip(before, after, AIR, strict=True))
            return after.plugins == 1 and opened - closed == 1 and not leaked

        await asyncio.to_thread(finding.expect_soon, is_nothing_left, "something is left")
    names = {call.json["result"]["name"] for call in calls.answered}
    finding.notes.append(f"{done} done")
    # With "required" a reload is refused once the data is older than its interval.
    finding.expect(done == reloads or first == "required", f"{reloads - done} reloads refused")
    finding.expect(names == {ANSWER}, f"decisions {names}")
    return finding.of(calls)


def _counts(server: live_server.Running) -> Counts:
    """Count when the last generation has drained and idle connections are closed."""
    time.sleep(SETTLE_S)
    plugin: dict[str, Any] = {}
    while "status" not in plugin:  # on a busy machine it may not be there within a second
        (plugin,) = server.operator("/status").json["plugins"]
    return Counts(server.open_files, server.threads, **plugin["status"])
