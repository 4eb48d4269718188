"""A hook that does not end, or ends itself, delays no other plugin and no other call."""

import asyncio
import threading

import pytest

from pexpolicy import Conference
from tests.support import wire
from tests.support.fake_plugins import Hook, Serve, plugin
from tests.support.virtual_time import clock, virtual


def service(hook: Hook) -> type:
    return plugin(service_configuration=hook)


@virtual
async def test_a_hook_that_swallows_its_cancellation_is_abandoned(serving: Serve) -> None:
    ended = asyncio.Event()
    asked = 0

    async def stubborn(_: object) -> object:
        for _attempt in range(2):
            try:
                await asyncio.sleep(1.5)
            except asyncio.CancelledError:
                continue
        ended.set()
        return Conference(name="Too late", service_tag="")

    async def counts(_: object) -> None:
        nonlocal asked
        asked += 1

    classes = {"stubborn": service(stubborn), "next": service(counts)}
    async with serving(classes, clock=clock) as server:
        began = clock()
        reply = await server.ask(wire.SERVICE)
        assert clock() - began == pytest.approx(1.0)
        assert reply.json["decided_by"] == "default"
        await ended.wait()
        await asyncio.sleep(1)
        assert asked == 1
        assert len(server.lines()) == 1
        assert server.steps() == [("stubborn", "timed_out"), ("next", "abstained")]


@virtual
async def test_a_hook_that_never_ends_does_not_keep_the_server_from_stopping(
    serving: Serve,
) -> None:
    going = True

    async def immortal(_: object) -> None:
        while going:
            try:
                await asyncio.sleep(1)
            except BaseException:  # noqa: BLE001, S112 - what a bad plugin does
                continue

    async with serving({"immortal": service(immortal)}, clock=clock) as server:
        assert (await server.ask(wire.SERVICE)).json["decided_by"] == "default"
    going = False
    await asyncio.sleep(2)


async def test_a_stuck_plugin_does_not_hold_up_calls_of_other_plugins(serving: Serve) -> None:
    release = threading.Event()

    def stuck(_: object) -> None:
        release.wait()

    def quick(_: object) -> object:
        return None

    classes = {
        "stuck": plugin(service_configuration=stuck),
        "quick": plugin(registration_alias=quick),
    }
    try:
        tables = {"stuck": {"timeout": 0.05}, "quick": {"timeout": 4.0}}
        async with serving(classes, tables) as server:
            await asyncio.gather(*(server.ask(wire.SERVICE) for _ in range(12)))
            reply = await server.ask(wire.REGISTRATION + "a@b")
            assert reply.action == "continue"
            assert server.steps() == [("quick", "abstained")]
    finally:
        release.set()


@virtual
async def test_a_node_that_closes_its_connection_leaves_no_task(serving: Serve) -> None:
    ended: list[str] = []

    async def waits(_: object) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append("waits")

    async with serving({"toy": service(waits)}, clock=clock) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(wire.request_bytes(wire.SERVICE, "GET", {}))
        await asyncio.sleep(0.1)
        writer.close()
        await asyncio.sleep(3)
        assert ended == ["waits"]
        assert (await server.ask(wire.PARTICIPANT)).status == 200
