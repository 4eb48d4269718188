"""Rooms that the service desk closes and opens by HTTP."""

from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner

from acme_platform.closures import Closures, Settings
from acme_platform.command import closures
from pexpolicy.testing import decide, make_request


async def test_a_room_is_closed_and_opened_again(tmp_path: Path) -> None:
    file = tmp_path / "closed.json"
    plugin = Closures(Settings(file=file))
    request = make_request("service_configuration", local_alias="sip:Board@acme.example")
    app = web.Application()
    app.add_routes(plugin.routes())
    async with TestClient(TestServer(app)) as client:
        for method, rooms, action in (("PUT", ["board"], "reject"), ("DELETE", [], "continue")):
            assert (await client.request(method, "/rooms/Board")).status == 204
            assert await (await client.get("/rooms")).json() == rooms
            assert CliRunner().invoke(closures, [str(file)]).stdout.split() == rooms
            assert (await decide(plugin, request)).decision.action == action
