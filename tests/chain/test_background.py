"""Background work: shadow plugins change and delay nothing."""

import asyncio
from typing import Any

import pytest

from pexpolicy import Conference, Reject
from tests.support import wire
from tests.support.fake_plugins import Serve, Serving, always, plugin, raises
from tests.support.waiting import until

ROOM = Conference(name="Room", service_tag="")


async def shadows(server: Serving, count: int = 1) -> list[dict[str, Any]]:
    """The shadow lines, once there are as many."""

    def found() -> list[dict[str, Any]]:
        return [line for line in server.lines() if line["event"] == "shadow"]

    await until(lambda: len(found()) >= count)
    return found()


@pytest.mark.parametrize(
    ("answer", "differs"),
    [
        (None, False),
        (Conference(name="Room", service_tag=""), False),
        (Conference(name="Other", service_tag=""), True),
        (Reject(reason="no"), True),
        ({"service_type": "conference", "name": "Room", "service_tag": ""}, False),
    ],
)
async def test_a_shadow_says_what_it_would_have_decided(
    serving: Serve, answer: object, differs: bool
) -> None:
    classes = {
        "shadow": plugin(service_configuration=always(answer)),
        "real": plugin(service_configuration=always(ROOM)),
    }
    async with serving(classes, {"shadow": {"mode": "shadow"}}) as server:
        reply = await server.ask(wire.SERVICE)
        assert (reply.json["decided_by"], reply.result["name"]) == ("real", "Room")
        (line,) = await shadows(server)
        assert line["differs"] is differs
        assert line["decision_id"] == reply.json["decision_id"]
        assert [step["plugin"] for step in line["steps"]] == ["shadow"]
        decision = next(line for line in server.lines() if line["event"] == "decision")
        assert [step["plugin"] for step in decision["steps"]] == ["real"]


async def test_a_shadow_may_be_slow_or_broken(serving: Serve) -> None:
    async def slow(_: object) -> None:
        await asyncio.sleep(3600)

    classes = {
        "slow": plugin(service_configuration=slow),
        "broken": plugin(service_configuration=raises(SystemExit(1))),
        "real": plugin(service_configuration=always(ROOM)),
    }
    modes = {"slow": {"mode": "shadow", "timeout": 0.2}, "broken": {"mode": "shadow"}}
    async with serving(classes, modes) as server:
        for _ in range(20):
            assert (await server.ask(wire.SERVICE)).result["name"] == "Room"
        ids = [line["decision_id"] for line in server.lines() if line["event"] == "decision"]
        assert len(ids) == 20
        outcomes = {line["steps"][0]["outcome"] for line in await shadows(server, 40)}
        assert outcomes == {"timed_out", "failed"}


async def test_the_secrets_of_a_shadow_are_not_written(serving: Serve) -> None:
    secret = Conference(name="Room", service_tag="", pin="918273", allow_guests=False)
    classes = {"shadow": plugin(service_configuration=always(secret))}
    async with serving(classes, {"shadow": {"mode": "shadow"}}) as server:
        await server.ask(wire.SERVICE)
        (line,) = await shadows(server)
        assert line["removed"] == ["pin"]
        assert b"918273" not in server.audit.read_bytes()


async def test_calls_that_a_shadow_cannot_follow_are_left_out(serving: Serve) -> None:
    async def slow(_: object) -> None:
        await asyncio.sleep(3600)

    classes = {
        "slow": plugin(service_configuration=slow),
        "real": plugin(service_configuration=always(ROOM)),
    }
    async with serving(classes, {"slow": {"mode": "shadow", "timeout": 4.0}}) as server:
        for _ in range(300):
            assert (await server.ask(wire.SERVICE)).status == 200
        events = [event["event"] for event in server.log.events]
        assert events.count("shadow plugins do not keep up: calls are left out") == 1
