"""Shared state of two workers over SQLite, and of two servers over PostgreSQL."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pexpolicy.cli.main import main
from tests.support import live_server, postgresql
from tests.support.live_server import Running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PLACES = """
from aiohttp import web
from pexpolicy import Leases, Plugin, PluginSettings, Refreshed, Reject, Store

class Places(Plugin[PluginSettings]):
    def __init__(self, settings):
        self.calls = Leases("calls", ttl=60)
        self.rooms = Store("rooms", int)
        self.fetched = 0
        self.data = Refreshed(self.fetch, every=3600)

    async def fetch(self):
        self.fetched += 1

    async def service_configuration(self, request):
        caller = f"{request.remote_alias} dry" if request.dry_run else request.remote_alias
        if await self.calls.acquire(request.local_alias.host, caller, 3):
            return None
        return Reject(reason="full")

    def routes(self):
        return [
            web.put("/rooms/{room}", self.add),
            web.get("/state", self.state),
            web.post("/refresh", self.refresh),
        ]

    async def add(self, request):
        await self.rooms.put(request.match_info["room"], 1)
        await self.rooms.update("count", lambda count: (count or 0) + 1)
        return web.Response(status=204)

    async def state(self, request):
        rooms = dict(await self.rooms.items())
        calls = await self.calls.counts()
        return web.json_response({"rooms": rooms, "calls": calls, "fetched": self.fetched})

    async def refresh(self, request):
        await self.data.refresh(everywhere=True)
        return web.Response(status=204)
"""
SHADOW = '[plugins.shadowed]\nplugin = "places"\nmode = "shadow"\n'
CASE = """
[[case]]
name = "a"
endpoint = "service_configuration"
request = { local_alias = "sip:room@acme.example" }
expect = { action = "continue" }
"""
CALL = "/policy/v1/service/configuration?local_alias=sip:room@{host}&remote_alias=caller-{n}"


@pytest.fixture
def servers(engine: postgresql.Server | None, tmp_path: Path) -> Iterator[list[Running]]:
    """Start one server with two workers, or two servers with one database."""
    shared, count = "", 1
    if engine is not None:
        shared, count = f"{shared_table(engine)}timeout = 4.0\n", 2
    with ExitStack() as stack:
        started = []
        for number in range(count):
            folder = tmp_path / f"server-{number}"
            folder.mkdir()
            config = live_server.drop_in(folder, "places", PLACES, more=shared + SHADOW)
            workers = ("--workers", str(3 - count))
            started.append(stack.enter_context(live_server.running(config, *workers)))
        yield started


def shared_table(server: postgresql.Server) -> str:
    password = server.folder / "password"
    return f'[shared]\ndriver = "postgresql"\nurl = "{server.url}"\npassword_file = "{password}"\n'


def at_once(asking: Callable[[int], Any], count: int) -> list[Any]:
    with ThreadPoolExecutor(25) as threads:
        return list(threads.map(asking, range(count)))


def state(servers: Sequence[Running], plugin: str = "places") -> Any:
    return servers[-1].operator(f"/plugins/{plugin}/state").json


def call(server: Running, n: int, host: str = "acme.example") -> str:
    return str(server.ask(CALL.format(host=host, n=n)).json["action"])


def admitted(servers: list[Running], host: str, n: int) -> str:
    return call(servers[n % len(servers)], n, host)


def test_no_more_calls_than_places_are_admitted(servers: list[Running]) -> None:
    for host in ("a.example", "b.example"):
        actions = at_once(partial(admitted, servers, host), 50)
        assert actions.count("continue") == 3
    assert state(servers)["calls"] == {"a.example": 3, "b.example": 3}


def test_commands_and_shadows_take_no_place(servers: list[Running]) -> None:
    assert [call(servers[n % len(servers)], n) for n in range(2)] == ["continue"] * 2
    config = servers[0].audit.with_name("config.toml")
    cases = config.with_name("cases.toml")
    cases.write_text(CASE)
    for arguments in (
        ("explain", "room@acme.example"),
        ("test", str(cases)),
        ("replay", str(servers[0].audit), "--against", str(config)),
    ):
        for _ in range(3):
            done = CliRunner().invoke(main, [*arguments, "--config", str(config)])
            assert done.exit_code == 0, done.output
    assert state(servers)["calls"] == {"acme.example": 2}
    assert state(servers, "shadowed")["calls"] == {}


def test_no_change_of_many_at_a_time_is_lost(servers: list[Running]) -> None:
    replies = at_once(
        lambda n: servers[n % len(servers)].operator(f"/plugins/places/rooms/{n}", method="PUT"), 60
    )
    assert {reply.status for reply in replies} == {204}
    assert state(servers)["rooms"] == {**{str(n): 1 for n in range(60)}, "count": 60}


def test_data_is_refreshed_on_all_servers(servers: list[Running]) -> None:
    assert servers[0].operator("/plugins/places/refresh", method="POST").status == 204
    # Of two workers, either one answers.
    wait_until(lambda: {state(servers)["fetched"] for _ in range(5)} == {2})


@pytest.mark.parametrize(("on_error", "action"), [("skip", "continue"), ("reject", "reject")])
def test_no_call_is_late_while_the_database_hangs(
    tmp_path: Path, postgres: postgresql.Server, on_error: str, action: str
) -> None:
    postgres.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    table = f'on_error = "{on_error}"'
    config = live_server.drop_in(tmp_path, "places", PLACES, table, more=shared_table(postgres))
    with live_server.running(config) as server:

        def timed(n: int) -> tuple[float, str]:
            began = time.monotonic()
            done = call(server, n, f"{n}.example")
            return time.monotonic() - began, done

        wait_until(lambda: timed(0)[1] == "continue")
        with postgres.frozen():
            hung = at_once(timed, 200)
            shown = json.loads(server.operator("/status").body)["shared"]
        postgres.kill()
        dead = at_once(timed, 200)
        postgres.start()
        assert {done for _, done in (*hung, *dead)} == {action}
        # 0.5 s where this test runs alone (`make -C lab live`); a node waits for 5 s.
        assert max(seconds for seconds, _ in (*hung, *dead)) < 5.0
        assert shown == {"available": False, "problem": "no answer within 0.25 s"}
        wait_until(lambda: json.loads(server.operator("/status").body)["shared"]["available"])
        wait_until(lambda: timed(1)[1] == "continue")
