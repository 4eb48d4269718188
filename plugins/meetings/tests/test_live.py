"""Meetings while people are in them: answers that stay, the meeting before, and the end."""

import random
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pexpolicy.testing import ManagementApi, Simulator
from pexpolicy_live import Live
from pexpolicy_meetings.meeting import Fault
from pexpolicy_meetings.store import Stored
from tests.support.booked import Servers, at

ALIAS = "sip:812345678@acme.example.com"
NEXT = {"start": "2030-06-01T10:30:00Z", "end": "2030-06-01T11:00:00Z", "meeting_id": "crm-8"}


def enter(servers: Servers, people: int) -> None:
    """Let the plugin ``live`` know how many people are in the service."""
    for _ in servers.policies:
        plugin = servers.plugin()
        plugin.store._live.read = lambda request, name: (
            people if (request.service_name, name) == ("812345678", "service") else 0
        )


async def test_an_answer_stays_while_people_are_there(start: Any) -> None:
    async with start() as servers:
        await servers.put()
        before = await servers.call(ALIAS)
        enter(servers, 2)
        await servers.put(title="Other", lobby="locked", host_pin="200100")
        assert await servers.call(ALIAS) == {**before, "pin": "200100"}
        await servers.put(title="Other", lobby="none", guest_pin=None, host_pin="200100")
        found = await servers.call(ALIAS)
        assert found["allow_guests"]
        assert found["guest_pin"] not in ("081500", "200100")
        enter(servers, 0)
        after = await servers.call(ALIAS)
        assert after["description"] == "Other"
        assert "allow_guests" not in after
        enter(servers, 1)
        assert await servers.call(ALIAS) == after


async def test_a_meeting_opens_when_the_one_before_has_ended(start: Any) -> None:
    async with start() as servers:
        await servers.put()
        await servers.put(**NEXT)
        ann = {"uuid": "u-1", "conference": "812345678", "service_type": "conference"}
        await servers.report("connected", **ann, service_tag="t=acme&m=crm-7")
        enter(servers, 1)
        assert await servers.call(ALIAS, "10:00:00") == "the meeting before has not ended"
        enter(servers, 0)
        assert (await servers.call(ALIAS))["service_tag"] == "t=acme&m=crm-8"
        bob = {**ann, "uuid": "u-2"}
        await servers.report("connected", **bob, service_tag="t=acme&m=crm-8")
        enter(servers, 1)
        assert (await servers.call(ALIAS))["service_tag"] == "t=acme&m=crm-8"


async def test_the_plugin_live_tells_who_is_there(start: Any) -> None:
    async with start({"live": {}}) as servers:
        await servers.put()
        found = [one.instance for policy in servers.policies for one in policy.plugins]
        lives = [one for one in found if isinstance(one, Live)]
        ann = {"uuid": "u-1", "conference": "812345678", "service_type": "conference"}
        data = {**ann, "connect_time": servers.now, "protocol": "SIP", "has_media": True}
        await lives[0].on_events([servers.event("connected", **data)])
        for live in lives:
            await live.read()
        assert servers.plugin().store.participants("812345678") == 1
        assert servers.plugin().store.participants("81234567") == 0
        before = await servers.call(ALIAS)
        await servers.put(title="Other")
        assert await servers.call(ALIAS) == before


@pytest.mark.parametrize("room", ["812345678@other.example.com", "812345678", "board"])
async def test_a_room_has_its_name_alone(start: Any, room: str) -> None:
    table = {"name": "812345678" if room == "board" else "Board"}
    async with start({"rooms": {"settings": {"rooms": {room: table}}}}) as servers:
        assert await servers.put() == [Fault("/aliases/0", "is in use at that time", 409)]
        assert isinstance(await servers.put(aliases=["81@acme.example.com"]), Stored)


async def test_a_meeting_disconnects_its_own_conference(start: Any, tmp_path: Path) -> None:
    calls = Simulator(random.Random(1))
    own, api = calls.join("812345678", "sip", tag="t=acme&m=crm-7"), ManagementApi(calls)
    (tmp_path / "of-api").write_text(api.password)
    login = {"user": "reader", "password_file": "of-api"}
    login |= {"command_user": "commander", "command_password_file": "of-api"}
    async with api.serving() as url:
        source = {"driver": "infinity", "url": url, **login}
        tables = {"sources": {"mgr": source}, "infinity": {"source": "mgr"}}
        async with start(tables=tables) as servers:
            await servers.put(at_end="disconnect")
            for time, is_in in (("09:59:59", True), ("10:00:00", False)):
                servers.now = at(time)
                await servers.plugin().end()
                assert bool(own.service) == is_in
            after = calls.join("812345678", "sip", tag="t=acme&m=crm-8")
            servers.now = at("10:01:00")
            await servers.plugin().end()
            assert after.service


async def test_a_meeting_can_end_early_and_open_again(start: Any) -> None:
    async with start() as servers:
        await servers.put()
        servers.now += 60
        await servers.edit(lambda one: replace(one, ended_at=servers.now))
        assert await servers.call(ALIAS) == "ended"
        await servers.put(title="Renamed")
        assert await servers.call(ALIAS) == "ended"
        await servers.put(end="2030-06-01T11:30:00+02:00")
        assert isinstance(await servers.call(ALIAS), dict)
