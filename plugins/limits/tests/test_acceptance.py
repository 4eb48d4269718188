"""Limits as callers and a platform meet them, over HTTP: one server with two workers on SQLite,
and two servers on one PostgreSQL, which get the halves of each case.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pexpolicy.testing import Simulator, url_of
from tests.support import site as sites
from tests.support import wire
from tests.support.limited import request_of
from tests.support.site import Site
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PLUGINS = """
[tenants.bolt]
aliases = ["*@bolt.example.com"]
[plugins.live]
[plugins.limits]
on_error = "reject"
timeout = 4.0
[plugins.limits.settings.tenants.acme]
participants = { hard = 2 }
on_hard = "reject"
"""
BOARD = "812345678@acme.example.com"


@pytest.fixture(params=sites.ENGINES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with sites.running(tmp_path, request.param, PLUGINS) as running:
        yield running


async def call(site: Site, number: int, alias: str = BOARD) -> wire.Reply:
    target = str(url_of(request_of(f"caller{number}@example.com", alias)))
    return await wire.ask(site.server(number).port, target)


def report(site: Site, platform: Simulator, **tenants: int) -> None:
    """Send all events, and wait until they have given so many places."""
    for number, event in enumerate(platform.events):
        assert site.post(number, event) == 200
    wait_until(lambda: site.status(0, "limits")["tenants"] == tenants)


async def _at_once(site: Site, numbers: range) -> Counter[str]:
    replies = await asyncio.gather(*(call(site, number) for number in numbers))
    return Counter(reply.json.get("reason", reply.action) for reply in replies)


def test_a_limit_of_two(site: Site) -> None:
    platform = Simulator(random.Random(3))
    ann = platform.join("812345678", "webrtc", alias=BOARD, caller="Ann")
    bob = platform.join("812345678", "sip", alias=BOARD)
    report(site, platform, acme=2)
    for number in range(2):
        reply = asyncio.run(call(site, number))
        assert (reply.action, reply.json["decided_by"]) == ("reject", "limits")
        assert reply.json["reason"] == "limit of acme: 2 of 2"
        assert asyncio.run(call(site, number, "room@bolt.example.com")).action == "continue"
    line = site.servers[0].lines()[0]
    assert line["annotations"]["limits"]["live.tenant"] == 2
    platform.leave(bob)
    report(site, platform, acme=1)
    calls = asyncio.run(_at_once(site, range(50)))
    assert calls == {"continue": 1, "limit of acme: 2 of 2": 49}
    platform.leave(ann)
    report(site, platform, acme=1)
