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
async def test_a_context_variable_leaks_neither_to_the_next_call_nor_to_the_next_plugin(
    serving: Serve, binds: Hook
) -> None:
    found: list[str] = []

    async def looks_then_binds(request: object) -> object:
        found.append(CALLER.get())
        await binds_and_waits(request)
        return await binds_at_once(request)

    hooks = {"looks": looks_then_binds, "binds": binds, "next": looks_then_binds}
    async with serving({name: service(hook) for name, hook in hooks.items()}) as server:
        for _ in range(3):
            await server.ask(wire.SERVICE)
    assert found == ["nobody"] * 6
    assert CALLER.get() == "nobody"


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
