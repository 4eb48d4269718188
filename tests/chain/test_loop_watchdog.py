"""The plugin that blocks the event loop is named, with its current line."""

import asyncio
import inspect
import os
import time
from pathlib import Path
from types import FunctionType
from typing import Any

import pexpolicy
from pexpolicy import Conference
from pexpolicy.errors import PACKAGE_ROOT
from tests.support import wire
from tests.support.fake_plugins import Serve, Serving, always, plugin

ROOM = Conference(name="Room", service_tag="")
HELD = 0.4
"""Real seconds: what is watched is real time, so no clock can be handed in."""


async def named(server: Serving) -> dict[str, Any]:
    """The first report of the watchdog."""
    for _ in range(400):
        for event in server.log.events:
            if "event loop" in event["event"]:
                return event
        await asyncio.sleep(0.005)
    raise AssertionError(server.log.events)


def holds() -> None:
    time.sleep(HELD)


async def at_once(_: object) -> object:
    holds()
    return ROOM


async def after_a_wait(_: object) -> object:
    await asyncio.sleep(0.01)
    holds()
    return ROOM


LINE = inspect.getsourcelines(holds)[1] + 1


async def test_a_hook_that_blocks_the_loop_is_named_with_its_line(serving: Serve) -> None:
    for hook in (at_once, after_a_wait):
        classes = {"before": plugin(service_configuration=always(None))}
        classes["blocking"] = plugin(service_configuration=hook)
        async with serving(classes) as server:
            await asyncio.sleep(0.1)
            await server.ask(wire.SERVICE)
            event = await named(server)
            assert event["plugin"] == "blocking"
            assert event["hook"] == "service_configuration"
            assert event["line"] == f"{__file__}:{LINE}"
            assert HELD * 1000 <= event["ms"] < HELD * 1000 + 1000


async def test_a_package_whose_name_begins_like_ours_is_none_of_ours(serving: Serve) -> None:
    file = f"{PACKAGE_ROOT.rstrip(os.sep)}_rooms{os.sep}plugin.py"
    elsewhere = FunctionType(holds.__code__.replace(co_filename=file), globals())

    async def hook(_: object) -> object:
        elsewhere()
        return ROOM

    async with serving({"rooms": plugin(service_configuration=hook)}) as server:
        await asyncio.sleep(0.1)
        await server.ask(wire.SERVICE)
        assert (await named(server))["line"] == f"{file}:{LINE}"


def test_the_root_of_the_package_is_where_the_package_is() -> None:
    assert Path(PACKAGE_ROOT) == Path(pexpolicy.__file__).parent


async def test_hooks_that_wait_or_block_in_threads_are_not_accused(serving: Serve) -> None:
    def blocks(_: object) -> object:
        time.sleep(HELD)
        return None

    async def waits(_: object) -> object:
        await asyncio.sleep(HELD)
        return ROOM

    classes = {
        "blocks": plugin(service_configuration=blocks),
        "waits": plugin(service_configuration=waits),
    }
    async with serving(classes) as server:
        reply = await server.ask(wire.SERVICE)
        assert reply.json["decided_by"] == "waits"
        assert server.log.events == []
