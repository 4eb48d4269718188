"""Limits as callers and a platform meet them, over HTTP: one server with two workers on SQLite,
and two servers on one PostgreSQL, which get the halves of each case.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from pexpolicy.testing import Simulator, url_of
from tests.support import live_server, postgresql, wire
from tests.support.limited import request_of
from tests.support.server_process import free_port
from tests.support.waiting import HANG_S

CONFIG = """
[server]
state_dir = "state"
workers = {workers}
[admin]
port = {port}
[audit]
path = "audit.jsonl"
[events]
user = "sink"
password_file = "sink.password"
[tenants.acme]
aliases = ["*@acme.example.com"]
[tenants.bolt]
aliases = ["*@bolt.example.com"]
[plugins.live]
[plugins.limits]
on_error = "reject"
timeout = 4.0
[plugins.limits.settings.tenants.acme]
participants = {{ hard = {hard} }}
on_hard = "reject"
[shared]
timeout = 4.0
{shared}
"""
BOARD = "812345678@acme.example.com"


class Site(NamedTuple):
    """The servers of a site, and the platform that asks them."""

    servers: list[live_server.Running]
    platform: Simulator

    async def call(self, number: int, alias: str = BOARD) -> wire.Reply:
        server = self.servers[number % len(self.servers)]
        target = str(url_of(request_of(f"caller{number}@example.com", alias)))
        return await wire.ask(server.port, target)

    def report(self) -> None:
        for number, event in enumerate(self.platform.events):
            content = json.dumps(event).encode()
            headers = {"Content-Length": str(len(content)), **wire.basic("sink", "a long word")}
            server = self.servers[number % len(self.servers)]
            message = wire.request_bytes("/events/v1", "POST", headers) + content
            assert asyncio.run(wire.send(server.port, message)).status == 200

    def wait_for(self, **tenants: int) -> None:
        """Wait until the events have given so many places."""
        deadline = time.monotonic() + HANG_S
        while (told := self._status())["tenants"] != tenants:
            assert time.monotonic() < deadline, told

    def _status(self) -> dict[str, Any]:
        told = self.servers[0].operator("/status").json
        plugins = told["plugins"]
        found: dict[str, Any] = next(one for one in plugins if one["name"] == "limits")["status"]
        return found


@pytest.fixture(params=["sqlite", "postgresql"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with ExitStack() as stack:
        shared, count = "", 1
        if request.param == "postgresql":
            server = stack.enter_context(postgresql.Server.running())
            shared, count = f'driver = "postgresql"\nurl = "{server.url}"\n', 2
            shared += 'password_file = "db.password"'
        servers = []
        for _ in range(count):
            folder = tmp_path_factory.mktemp("site")
            for name, secret in (("sink", "a long word"), ("db", postgresql.PASSWORD)):
                (folder / f"{name}.password").write_text(secret)
                (folder / f"{name}.password").chmod(0o600)
            config = folder / "config.toml"
            values = {"workers": 3 - count, "port": free_port(), "hard": 2, "shared": shared}
            config.write_text(CONFIG.format(**values))
            running = live_server.running(config, folder=folder, own_admin_port=True)
            servers.append(stack.enter_context(running))
        yield Site(servers, Simulator(random.Random(3)))


async def _at_once(site: Site, numbers: range) -> Counter[str]:
    replies = await asyncio.gather(*map(site.call, numbers))
    return Counter(reply.json.get("reason", reply.action) for reply in replies)


def test_a_limit_of_two(site: Site) -> None:
    ann = site.platform.join("812345678", "webrtc", alias=BOARD, caller="Ann")
    bob = site.platform.join("812345678", "sip", alias=BOARD)
    site.report()
    site.wait_for(acme=2)
    for number in range(2):
        reply = asyncio.run(site.call(number))
        assert (reply.action, reply.json["decided_by"]) == ("reject", "limits")
        assert reply.json["reason"] == "limit of acme: 2 of 2"
        assert asyncio.run(site.call(number, "room@bolt.example.com")).action == "continue"
    line = site.servers[0].lines()[0]
    assert line["annotations"]["limits"]["live.tenant"] == 2
    site.platform.leave(bob)
    site.report()
    site.wait_for(acme=1)
    calls = asyncio.run(_at_once(site, range(50)))
    assert calls == {"continue": 1, "limit of acme: 2 of 2": 49}
    site.platform.leave(ann)
    site.report()
    site.wait_for(acme=1)
