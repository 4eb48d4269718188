"""The listener of ``[api]``: routes of plugins for other programs."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pexpolicy import Plugin, PluginSettings, record_change
from pexpolicy.access.warnings import preflight_problems
from pexpolicy.builder import config_warnings
from pexpolicy.config.loader import from_document
from pexpolicy.config.settings import ConfigError, awaiting_restart
from pexpolicy.testing import capture_audit, server
from tests.support import live_server, wire

DOOR = """
import os
from aiohttp import web
from pexpolicy import hookimpl

class Door:
    @hookimpl
    def api_routes(self):
        return [web.get("/api/v1/door", self.pid)]

    async def pid(self, request):
        return web.json_response(os.getpid())
"""


class Rooms(Plugin[PluginSettings]):
    """Keeps a room, for a client with the right token."""

    def api_routes(self) -> list[web.RouteDef]:
        return [web.put("/api/v1/rooms/{id}", self._put), web.get("/api/v1/rooms/{id}", self._fail)]

    async def _put(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer right":
            return web.Response(status=401, text="which token was nearly right")
        size = len(await request.read())
        record_change(action="put", room=request.match_info["id"])
        return web.json_response({"size": size}, status=201)

    async def _fail(self, request: web.Request) -> web.Response:
        raise LookupError("of the plugin")


@dataclass
class Api:
    """The listener, and what was written into the audit."""

    http: aiohttp.ClientSession
    url: str
    lines: list[dict[str, Any]]

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any, str]:
        async with self.http.request(method, self.url + path, **options) as reply:
            text = await reply.text()
            return reply.status, reply.headers, text


@asynccontextmanager
async def serving() -> AsyncIterator[Api]:
    with capture_audit() as lines:
        async with server(Rooms, config={"api": {}}) as running, aiohttp.ClientSession() as http:
            yield Api(http, running.api_url, lines)


async def test_plugin_answers_and_its_change_is_recorded_before_the_reply() -> None:
    async with serving() as api:
        headers = {"Authorization": "Bearer right"}
        status, _, text = await api.ask("PUT", "/api/v1/rooms/board", headers=headers, data=b"abc")
        assert (status, json.loads(text)) == (201, {"size": 3})
        (line,) = [line for line in api.lines if line["event"] == "change"]
    assert line["plugin"] == "rooms"
    assert (line["action"], line["room"], line["peer"]) == ("put", "board", "127.0.0.1")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/v1/rooms/board", 500),
        ("DELETE", "/api/v1/rooms/board", 405),
        ("GET", "/api/v1/others", 404),
        ("GET", "/status", 404),
        ("GET", "/plugins/rooms/", 404),
        ("GET", "/policy/v1/service/configuration", 404),
        ("POST", "/rooms", 404),
    ],
)
async def test_other_requests_reach_nothing_else(method: str, path: str, expected: int) -> None:
    async with serving() as api:
        status, headers, text = await api.ask(method, path, data=b"a" * (method == "POST"))
    assert status == expected
    if expected != 500:
        assert headers["Content-Type"] == "application/problem+json"
        assert json.loads(text)["status"] == expected
    assert (headers.get("Allow") == "GET, HEAD, PUT") is (expected == 405)
    assert "of the plugin" not in text


async def test_wrong_tokens_are_slowed_and_recorded_and_right_ones_are_not() -> None:
    async with serving() as api:
        took = []
        for _ in range(3):
            began = time.perf_counter()
            wrong = {"Authorization": "Bearer wrong"}
            status, headers, text = await api.ask("PUT", "/api/v1/rooms/a", headers=wrong)
            took.append(time.perf_counter() - began)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "nearly" not in text
        assert took[2] >= 0.4
        began = time.perf_counter()
        right = {"Authorization": "Bearer right"}
        assert (await api.ask("PUT", "/api/v1/rooms/a", headers=right))[0] == 201
        assert time.perf_counter() - began < took[2]
        lines = [line for line in api.lines if line["event"] == "refused"]
    assert {line["reason"] for line in lines} == {"wrong token"}


async def test_an_address_that_guesses_on_is_asked_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pexpolicy.server.route_listeners.MAX_FAILURES", 1)
    async with serving() as api:
        for token, expected in (("a", 401), ("b", 429), ("right", 201)):
            sent = {"Authorization": f"Bearer {token}"}
            status, headers, _ = await api.ask("PUT", "/api/v1/rooms/a", headers=sent)
            assert (status, "Retry-After" in headers) == (expected, expected == 429)


@pytest.mark.parametrize(
    ("size", "expected"), [(1 << 16, 201), ((1 << 16) + 1, 413), (10 << 20, 413)]
)
async def test_body_has_at_most_64_kib(size: int, expected: int) -> None:
    async with serving() as api:
        headers = {"Authorization": "Bearer right"}
        body = io.BytesIO(b"x" * size)
        status, _, text = await api.ask("PUT", "/api/v1/rooms/a", headers=headers, data=body)
    assert status == expected
    assert json.loads(text).get("status", 201) == expected


async def test_chunked_body_is_refused_with_the_reason() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"

    async with serving() as api:
        headers = {"Authorization": "Bearer right"}
        status, _, text = await api.ask("PUT", "/api/v1/rooms/a", headers=headers, data=chunks())
    assert (status, "chunked" in json.loads(text)["detail"]) == (400, True)


async def test_path_of_a_route_is_whole() -> None:
    class Astray(Plugin[PluginSettings]):
        def api_routes(self) -> list[web.RouteDef]:
            return [web.get("/rooms", self._show)]

        async def _show(self, request: web.Request) -> web.Response:
            return web.Response()

    with pytest.raises(ConfigError, match="must begin with /api/"):
        async with server(Astray, config={"api": {}}):
            pass


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"api": {}}, ()),
        ({"api": {"host": "10.44.0.1"}}, (("api", "host"),)),
        ({"api": {"port": 8000}}, (("api", "port"),)),
        ({"api": {"port": 9107}}, (("api", "port"),)),
    ],
)
def test_certificate_and_a_port_of_its_own_are_needed(tables: Any, expected: Any) -> None:
    settings = from_document(tables, Path("config.toml"))
    found = [problem.key for problem in preflight_problems(settings)]
    assert tuple(key for key in found if key[:1] == ("api",)) == expected
    without = from_document({}, Path("config.toml"))
    assert awaiting_restart(without, settings) == ("api",)
    assert not [*config_warnings(settings, [])]


async def test_workers_share_the_listener(tmp_path: Path) -> None:
    more = '[api]\nport = 0\n[server]\nworkers = 2\nstate_dir = "state"\n'
    config = live_server.drop_in(tmp_path, "door", DOOR, more=more)
    log: list[str] = []
    with live_server.running(config, log=log) as running:
        announced = next(line for line in log if "; API: " in line)
        port = int(announced.partition("; API: ")[2].split(":")[2].split(")")[0])
        pids = set()
        for _ in range(100):
            reply = await wire.ask(port, "/api/v1/door")
            pids.add(reply.json)
            if len(pids) == 2:
                break
            await asyncio.sleep(0)
    assert len(pids) == 2
    assert running.pid not in pids
