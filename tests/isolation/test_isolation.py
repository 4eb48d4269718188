"""What one hook does to its task, its context and its time stays with that hook."""

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from pexpolicy import Conference
from tests.support import wire
from tests.support.fake_plugins import Hook, Serve, always, plugin
from tests.support.virtual_time import clock, virtual

ROOM = Conference(name="Next", service_tag="")
CALLER: ContextVar[str] = ContextVar("CALLER", default="nobody")


def service(hook: Hook) -> type:
    return plugin(service_configuration=hook)


def remembering(found: list[Any], look: Any) -> Hook:
    async def hook(_: object) -> object:
        found.append(look())
        return ROOM

    return hook


async def test_the_current_task_is_the_same_before_and_after_an_await(serving: Serve) -> None:
    seen: list[object] = []

    async def looks(_: object) -> object:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        await asyncio.to_thread(int)
        seen.append(asyncio.current_task())
        return ROOM

    async with serving({"toy": service(looks)}) as server:
        await server.ask(wire.SERVICE)
        assert len(seen) == 3
        assert seen[0] is not None
        assert seen[0] is seen[1] is seen[2]


@virtual
async def test_a_timeout_inside_a_hook_ends_its_own_block_and_nothing_else(serving: Serve) -> None:
    async def gives_up(_: object) -> object:
        try:
            async with asyncio.timeout(0.25):
                await asyncio.sleep(10)
        except TimeoutError:
            await asyncio.sleep(0.25)
            return Conference(name="After its own timeout", service_tag="")
        return None

    async with serving({"toy": service(gives_up)}, clock=clock) as server:
        began = clock()
        for _ in range(3):
            reply = await server.ask(wire.SERVICE)
            assert reply.result["name"] == "After its own timeout"
        assert clock() - began == pytest.approx(1.5)
        assert server.steps() == [("toy", "decided")]


@virtual
async def test_an_uncaught_timeout_error_is_a_failure_and_not_a_timeout(serving: Serve) -> None:
    async def gives_up(_: object) -> None:
        async with asyncio.timeout(0.25):
            await asyncio.sleep(10)

    classes = {"toy": service(gives_up), "next": service(always(ROOM))}
    async with serving(classes, clock=clock) as server:
        reply = await server.ask(wire.SERVICE)
        assert reply.result["name"] == "Next"
        assert server.steps() == [("toy", "failed"), ("next", "decided")]
        assert "TimeoutError" in server.details()


async def test_task_groups_work_inside_a_hook(serving: Serve) -> None:
    async def gathers(_: object) -> object:
        async with asyncio.TaskGroup() as group:
            names = [group.create_task(asyncio.sleep(0, result=name)) for name in "ab"]
        return Conference(name="".join(name.result() for name in names), service_tag="")

    async with serving({"toy": service(gathers)}) as server:
        assert (await server.ask(wire.SERVICE)).result["name"] == "ab"


async def binds_at_once(_: object) -> object:
    CALLER.set("alice")
    return None


async def binds_and_waits(_: object) -> object:
    CALLER.set("alice")
    await asyncio.sleep(0)
    return None


def binds_in_a_thread(_: object) -> object:
    CALLER.set("alice")
    return None


@pytest.mark.parametrize("binds", [binds_at_once, binds_and_waits, binds_in_a_thread])
async def test_a_context_variable_does_not_leak_to_the_next_call(
    serving: Serve, binds: Hook
) -> None:
    found: list[str] = []

    async def looks_then_binds(request: object) -> object:
        found.append(CALLER.get())
        await binds_and_waits(request)
        return await binds_at_once(request)

    classes = {"looks": service(looks_then_binds), "binds": service(binds)}
    async with serving(classes) as server:
        for _ in range(3):
            await server.ask(wire.SERVICE)
    assert found == ["nobody"] * 3
    assert CALLER.get() == "nobody"


@pytest.mark.parametrize("binds", [binds_at_once, binds_and_waits, binds_in_a_thread])
async def test_a_context_variable_does_not_leak_to_the_next_plugin(
    serving: Serve, binds: Hook
) -> None:
    found: list[str] = []
    classes = {"binds": service(binds), "next": service(remembering(found, CALLER.get))}
    async with serving(classes) as server:
        await server.ask(wire.SERVICE)
    assert found == ["nobody"]


async def test_a_context_variable_lives_as_long_as_its_hook(serving: Serve) -> None:
    found: list[str] = []

    async def binds_and_looks(_: object) -> None:
        CALLER.set("alice")
        found.append(CALLER.get())
        await asyncio.sleep(0)
        found.append(CALLER.get())
        found.append(await asyncio.to_thread(CALLER.get))

    async with serving({"toy": service(binds_and_looks)}) as server:
        await server.ask(wire.SERVICE)
    assert found == ["alice"] * 3


async def test_calls_that_wait_at_the_same_time_keep_their_answers_apart(serving: Serve) -> None:
    gate = asyncio.Event()
    waiting = 0

    async def echoes(request: Any) -> object:
        nonlocal waiting
        CALLER.set(request.local_alias)
        waiting += 1
        if waiting == 20:
            gate.set()
        await gate.wait()
        return Conference(name=CALLER.get(), service_tag="")

    async with serving({"toy": service(echoes)}) as server:
        targets = [f"{wire.SERVICE}?local_alias=room{number}" for number in range(20)]
        replies = await asyncio.gather(*(server.ask(target) for target in targets))
        names = [reply.result["name"] for reply in replies]
        assert names == [f"room{number}" for number in range(20)]
