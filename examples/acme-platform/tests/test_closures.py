"""Rooms that the service desk closes and opens by HTTP."""

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner

from acme_platform.closures import Closures
from acme_platform.command import closures
from pexpolicy import PluginSettings
from pexpolicy.testing import decide, make_request


async def test_a_room_is_closed_and_opened_again() -> None:
    plugin = Closures(PluginSettings())
    request = make_request("service_configuration", local_alias="sip:Board@acme.example")
    app = web.Application()
    app.add_routes(plugin.routes())
    async with TestClient(TestServer(app)) as client:
        url = str(client.make_url("/rooms"))
        for method, rooms, action in (("PUT", ["board"], "reject"), ("DELETE", [], "continue")):
            assert (await client.request(method, "/rooms/Board")).status == 204
            assert await (await client.get("/rooms")).json() == rooms
            listed = await asyncio.to_thread(CliRunner().invoke, closures, [url])
            assert listed.stdout.split() == rooms
            assert (await decide(plugin, request)).decision.action == action


async def test_no_change_of_many_at_a_time_is_lost() -> None:
    app = web.Application()
    app.add_routes(Closures(PluginSettings()).routes())
    async with TestClient(TestServer(app)) as client:
        await asyncio.gather(*(client.put(f"/rooms/room-{n:02}") for n in range(60)))
        assert await (await client.get("/rooms")).json() == [f"room-{n:02}" for n in range(60)]
