"""HTTP routes of plugins on the admin listener."""

import asyncio
import io
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from aiohttp import web

from pexpolicy import get_logger, hookimpl, metrics
from pexpolicy.builder import config_warnings
from pexpolicy.config.settings import ConfigError
from pexpolicy.log import ServerLog, capturing
from pexpolicy.server import route_listeners
from tests.server.test_reload import reloaded
from tests.support import fake_plugins, live_server, wire
from tests.support.admin_client import ServerWithAdmin, serve_with_admin
from tests.support.waiting import HANG_S, wait_until

ADMIN = "ADMIN_TOKEN_OF_TESTS"
SEEN = metrics.counter("route_lookups_total", "Look-ups by HTTP.")
TOKENS = {ADMIN: "a" * 32}


class Desk:
    """A plugin whose routes answer, fail and hang in many ways."""

    def __init__(self, settings: object) -> None:
        self.going = asyncio.Event()

    @hookimpl
    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/rooms/{room}", self.room),
            web.post("/rooms", self.post),
            web.get("/raises", self.raises),
            web.get("/exits", self.exits),
            web.get("/nothing", self.nothing),
            web.get("/refuses", self.refuses),
            web.get("/hangs", self.hangs),
            web.get("/swallows", self.swallows),
            web.get("/streams", self.streams),
            web.get("/breaks", self.breaks),
            web.get("/header", self.header),
            web.get("/logs", self.logs),
        ]

    async def room(self, request: web.Request) -> web.Response:
        return web.json_response({"room": request.match_info["room"], "q": request.query.get("q")})

    async def post(self, request: web.Request) -> web.Response:
        return web.json_response({"got": len(await request.read())}, status=201)

    async def raises(self, request: web.Request) -> NoReturn:
        raise LookupError("no such desk")

    async def exits(self, request: web.Request) -> NoReturn:
        raise SystemExit(3)

    async def nothing(self, request: web.Request) -> Any:
        return None

    async def refuses(self, request: web.Request) -> NoReturn:
        raise web.HTTPConflict(text="taken")

    async def hangs(self, request: web.Request) -> web.Response:
        await self.going.wait()
        return web.Response(text="late")

    async def swallows(self, request: web.Request) -> web.Response:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
        return web.Response(text="too late")

    async def streams(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(200):
            await response.write(b"%05d\n" % number)
        return response

    async def breaks(self, request: web.Request) -> NoReturn:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b"half")
        raise LookupError("in the middle")

    async def logs(self, request: web.Request) -> web.Response:
        SEEN.inc()
        get_logger().warning("looked up", room="board")
        return web.Response(text="done")

    async def header(self, request: web.Request) -> web.Response:
        return web.Response(text="x", headers={"X-Desk": "a\r\nX-Other: b"})


@asynccontextmanager
async def serving(folder: Path, **admin: object) -> AsyncIterator[ServerWithAdmin]:
    policy = fake_plugins.policy({"desk": Desk}, admin=admin)
    async with serve_with_admin(policy, folder) as server:
        yield server


async def send(server: ServerWithAdmin, head: str, body: bytes = b"") -> wire.Reply:
    lines = f"{head}\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    if body:
        lines += f"Content-Length: {len(body)}\r\n"
    return await wire.send(server.admin, lines.encode() + b"\r\n" + body)


async def test_a_route_is_served_below_the_name_of_its_plugin(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        reply = await server.operator("/plugins/desk/rooms/b%C3%B8?q=1")
        assert (reply.status, reply.json) == (200, {"room": "bø", "q": "1"})
        assert reply.headers["server"] == "pexpolicy"
        headed = await server.operator("/plugins/desk/rooms/b", method="HEAD")
        assert (headed.status, headed.body) == (200, b"")
        assert (await server.operator("/plugins/desk/refuses")).body == b"taken"
        assert b"00199\n" in (await server.operator("/plugins/desk/streams")).body
        assert (await server.ask("/plugins/desk/rooms/b")).status == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/plugins/desk", 404),
        ("GET", "/plugins/desk/", 404),
        ("GET", "/plugins/other/rooms/b", 404),
        ("GET", "/plugins/", 404),
        ("GET", "/plugins", 404),
        ("GET", "/plugins/desk/../desk/rooms/b", 404),
        ("DELETE", "/plugins/desk/rooms", 405),
    ],
)
async def test_other_paths_and_methods_are_refused(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async with serving(tmp_path) as server:
        assert (await server.operator(path, method=method)).status == status
        assert server.server.log.events == []


async def test_a_body_is_read_to_its_limit(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for size in (1, 65536):
            reply = await send(server, "POST /plugins/desk/rooms HTTP/1.1", b"x" * size)
            assert (reply.status, reply.json) == (201, {"got": size})
        too_large = await send(server, "POST /plugins/desk/rooms HTTP/1.1", b"x" * 65537)
        assert too_large.status == 413
        chunked = "POST /plugins/desk/rooms HTTP/1.1\r\nTransfer-Encoding: chunked"
        assert (await send(server, chunked)).status == 400
        for path in ("/status", "/metrics", "/livez", "/pluginsX"):
            assert (await send(server, f"POST {path} HTTP/1.1", b"x")).status == 400


@pytest.mark.parametrize("step", [1, 2, 7, 100, 1000])
async def test_bodies_arrive_in_pieces_and_one_after_the_other(tmp_path: Path, step: int) -> None:
    async with serving(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.admin)
        head = b"POST /plugins/desk/rooms HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        body = b"1234\r\n\r\n9"
        get = b"GET /plugins/desk/rooms/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        content = head + body + head + body + get
        for start in range(0, len(content), step):
            writer.write(content[start : start + step])
            await writer.drain()
            await asyncio.sleep(0)
        received = await reader.read()
        writer.close()
        assert received.count(b"HTTP/1.1 201") == 2
        assert received.count(b'{"got": 9}') == 2
        assert received.endswith(b'{"room": "x", "q": null}')


async def test_a_body_that_does_not_arrive_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = route_listeners.AdminApp.limits._replace(request_seconds=0.2)
    monkeypatch.setattr(route_listeners.AdminApp, "limits", limits)
    async with serving(tmp_path) as server:
        head = b"POST /plugins/desk/rooms HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", server.admin)
        writer.write(head + b"1234")
        assert await asyncio.wait_for(reader.read(), HANG_S) == b""
        writer.close()
        assert [line["reason"] for line in server.server.lines()] == ["request timeout"]


async def test_the_token_of_the_admin_listener_opens_the_routes_of_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADMIN, TOKENS[ADMIN])
    async with serving(tmp_path, token_env=ADMIN) as server:
        for path, status in (("/plugins/desk/rooms/b", 200), ("/plugins/none/x", 404)):
            assert (await server.operator(path)).status == 401
            headers = {"Authorization": f"Bearer {TOKENS[ADMIN]}"}
            assert (await server.operator(path, headers=headers)).status == status


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
async def test_without_a_token_no_page_of_another_site_reaches_a_plugin(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with serving(tmp_path) as server:
        reply = await server.operator("/plugins/desk/rooms", method="POST", headers=headers)
        assert reply.status == 421


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("raises", "LookupError: no such desk"),
        ("exits", "SystemExit: 3"),
        ("nothing", "TypeError: the handler returned NoneType, not a response"),
        ("header", "ValueError: "),
    ],
)
async def test_a_route_that_fails_is_a_500_and_one_line(
    tmp_path: Path, path: str, error: str
) -> None:
    async with serving(tmp_path) as server:
        for _ in range(20):
            reply = await server.operator(f"/plugins/desk/{path}")
            assert reply.status == 500
            assert reply.body == b"desk failed: see the log\n"
        (event,) = server.server.log.events
        assert (event["event"], event["plugin"]) == ("plugin failed", "desk")
        assert event["hook"] == "routes"
        assert event["error"].startswith(error)
        assert (await server.operator("/status")).status == 200
    assert server.server.log.events == [event]


async def test_a_response_that_fails_in_the_middle_ends_the_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        reply = await server.operator("/plugins/desk/breaks")
        assert (reply.status, reply.body) == (200, b"half")
        assert [event["event"] for event in server.server.log.events] == ["plugin failed"]


async def test_a_route_logs_and_counts_as_its_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = SEEN.value("desk")
    stream = io.StringIO()
    async with serving(tmp_path) as server:
        monkeypatch.setattr(sys, "stderr", stream)
        with capturing(ServerLog()):
            assert (await server.operator("/plugins/desk/logs")).body == b"done"
    assert SEEN.value("desk") == before + 1
    line = json.loads(stream.getvalue())
    assert (line["event"], line["room"]) == ("looked up", "board")
    assert (line["plugin"], line["hook"]) == ("desk", "routes")


@pytest.mark.parametrize("path", ["hangs", "swallows"])
async def test_a_route_that_is_late_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(route_listeners, "TIMEOUT_S", 0.1)
    async with serving(tmp_path) as server:
        for _ in range(3):
            reply = await server.operator(f"/plugins/desk/{path}")
            assert (reply.status, reply.body) == (504, b"desk did not answer in time\n")
        (event,) = server.server.log.events
        assert (event["event"], event["error"]) == ("plugin was late", "no answer within 0.1 s")


def shaped(routes: Callable[[], Any]) -> type:
    class Shaped:
        @hookimpl
        def routes(self) -> Any:
            return routes()

    return Shaped


async def handler(request: web.Request) -> web.Response:
    return web.Response()


def blocking(request: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "its routes must return an iterable of aiohttp.web.RouteDef"),
        (["/x"], "its routes must return an iterable of aiohttp.web.RouteDef"),
        ([web.static("/x", "/")], "its routes must return an iterable of aiohttp.web.RouteDef"),
        ([web.get("x", handler)], "its route GET x: its path must begin with /"),
        ([web.get("/x", blocking)], "its route GET /x: its handler is"),  # type: ignore[arg-type]
        ([web.get("/x", 7)], "its route GET /x: its handler is 7"),  # type: ignore[arg-type]
        ([web.get("/{x", handler)], "its route GET /{x: Invalid path"),
        ([web.get("/{x:[}", handler)], "its route GET /{x:[}: Bad pattern"),
        ([web.get("/x", handler)] * 2, "its route GET /x: Added route will never be"),
        ([web.route("G T", "/x", handler)], "its route G T /x: "),
    ],
)
def test_a_route_of_a_wrong_shape_is_an_error_of_its_plugin(answer: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        fake_plugins.policy({"toy": shaped(lambda: answer)})
    (only,) = raised.value.problems
    assert str(only).startswith(f"plugins.toy: toy (toy-toy 1.0): {problem}"), only


def test_routes_without_a_listener_are_a_warning() -> None:
    policy = fake_plugins.policy({"desk": Desk}, admin={"enabled": False})
    texts = [str(warning) for warning in config_warnings(policy.settings, policy.plugins)]
    assert "plugins.desk: its routes are not served, as admin.enabled is false" in texts


LIVE = """
import asyncio, os
from contextlib import asynccontextmanager
from pathlib import Path
from aiohttp import web
from pexpolicy import PluginSettings, hookimpl


class Desk:
    class Settings(PluginSettings):
        name: str

    def __init__(self, settings):
        self.name = settings.name
        self.is_open = False

    @hookimpl
    @asynccontextmanager
    async def lifespan(self):
        self.is_open = True
        yield
        self.is_open = False

    @hookimpl
    def routes(self):
        return [web.get("/slow", self.slow), web.get("/who", self.who)]

    async def slow(self, request):
        Path("begun").touch()
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        return web.json_response({"name": self.name, "open": self.is_open})

    async def who(self, request):
        return web.json_response({"name": self.name, "pid": os.getpid()})
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return live_server.drop_in(tmp_path, "desk", LIVE, 'settings.name = "first"')


def test_a_request_in_flight_ends_with_its_generation(config: Path) -> None:
    replies: list[Any] = []
    with live_server.running(config, folder=config.parent) as server:
        asking = threading.Thread(
            target=lambda: replies.append(server.operator("/plugins/desk/slow").json)
        )
        asking.start()
        wait_until((config.parent / "begun").exists)
        config.write_text(config.read_text().replace("first", "second"))
        assert reloaded(config).done
        assert server.operator("/plugins/desk/who").json["name"] == "second"
        (config.parent / "go").touch()
        asking.join(timeout=HANG_S)
        assert replies == [{"name": "first", "open": True}]


def test_with_several_workers_one_of_them_answers(config: Path) -> None:
    with live_server.running(config, "--workers", "2", folder=config.parent) as server:
        pids = {server.operator("/plugins/desk/who").json["pid"] for _ in range(20)}
        assert server.pid not in pids
        assert 1 <= len(pids) <= 2
