"""The plugin that blocks the event loop is named, with its current line."""

import asyncio
import inspect
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from types import FunctionType
from typing import Any

import pytest

from pexpolicy import Conference, hookimpl
from pexpolicy.endpoints import ENDPOINTS
from pexpolicy.errors import PACKAGE_ROOT
from tests.support import wire
from tests.support.fake_plugins import Serve, Serving, always, plugin
from tests.support.waiting import HANG_S

ROOM = Conference(name="Room", service_tag="")
HELD = 0.3
"""Real seconds: what is watched is real time, so no clock can be handed in."""
OTHERS = ("a thread or another process", "the server")
"""What the watchdog may name first, as a busy machine holds the loop and the watchdog itself."""


def reports(server: Serving) -> list[dict[str, Any]]:
    words = ("event loop", "interpreter")
    return [event for event in server.log.events if any(word in event["event"] for word in words)]


async def named(server: Serving, *names: str, line: str = "") -> dict[str, Any]:
    """Ask until the watchdog has named one of these, at this line; it names no other plugin.

    On a busy machine it may run too late to see what held the loop in one call.
    """
    async with asyncio.timeout(HANG_S):
        while True:
            await server.ask(wire.SERVICE)
            for _ in range(20):
                for event in reports(server):
                    if event["plugin"] in names and line in event.get("line", ""):
                        return event
                    assert event["plugin"] in (*names, *OTHERS), event
                await asyncio.sleep(0.005)


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
        began = time.monotonic()
        async with serving(classes) as server:
            event = await named(server, "blocking")
            assert event["hook"] == "service_configuration"
            assert event["line"] == f"{__file__}:{LINE}"
            assert HELD * 1000 <= event["ms"] <= (time.monotonic() - began) * 1000


async def test_a_package_whose_name_begins_like_ours_is_none_of_ours(serving: Serve) -> None:
    file = f"{PACKAGE_ROOT.rstrip(os.sep)}_rooms{os.sep}plugin.py"
    elsewhere = FunctionType(holds.__code__.replace(co_filename=file), globals())

    async def hook(_: object) -> object:
        elsewhere()
        return ROOM

    async with serving({"rooms": plugin(service_configuration=hook)}) as server:
        assert (await named(server, "rooms"))["line"] == f"{file}:{LINE}"


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
        await server.ask(wire.SERVICE)
        assert [event for event in reports(server) if event["plugin"] not in OTHERS] == []


SLOW = re.compile("(a|a)+$")


@cache
def slow_text() -> str:
    """A text that the pattern takes at least ``HELD`` seconds of processor time for; ``re`` keeps
    the interpreter meanwhile.
    """
    length, took = 16, 0.0
    while took < HELD:
        length += 1
        began = time.thread_time()
        SLOW.match("a" * length + "b")
        took = time.thread_time() - began
    return "a" * length + "b"


async def matches_on_the_loop(_: object) -> object:
    SLOW.match(slow_text())
    return ROOM


async def test_a_slow_pattern_is_blamed_on_its_plugin(serving: Serve) -> None:
    slow_text()

    async def waits(_: object) -> object:
        await asyncio.sleep(3 * HELD)
        return ROOM

    classes = {
        "slow": plugin(service_configuration=matches_on_the_loop),
        "waits": plugin(media_location=waits),
    }
    names = ["slow"]
    if sys.version_info[:2] == (3, 12):
        # This version may pass the lock on only after the hook has returned.
        names += OTHERS
    async with serving(classes) as server:
        other = asyncio.create_task(server.ask(wire.LOCATION))
        event = await named(server, *names)
        if event["plugin"] == "slow":
            assert event["hook"] == "service_configuration"
        assert event["ms"] >= HELD * 500
        await other


class Refreshing:
    """A plugin whose background task blocks the event loop again and again."""

    def __init__(self, settings: object) -> None:
        self.settings = settings
        self.ends = False

    @hookimpl
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.refresh())
        yield
        self.ends = True
        await task

    async def refresh(self) -> None:
        while not self.ends:
            await asyncio.sleep(0.1)
            holds()

    @hookimpl
    async def service_configuration(self, request: object) -> object:
        return None if request else self.settings


async def test_a_background_task_is_blamed_on_its_plugin(serving: Serve) -> None:
    classes = {"refreshing": Refreshing, "next": plugin(service_configuration=always(ROOM))}
    async with serving(classes) as server:
        event = await named(server, "refreshing")
        assert event["hook"] == ""
        assert event["line"] == f"{__file__}:{LINE}"


async def test_code_of_the_server_is_not_blamed_on_a_plugin(
    serving: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = f"{PACKAGE_ROOT}endpoints{os.sep}base.py"
    ours = FunctionType(holds.__code__.replace(co_filename=file), globals())
    endpoint = type(ENDPOINTS["service_configuration"])

    def check(_: object, answer: object, __: object) -> object:
        ours()
        return answer

    check = FunctionType(
        check.__code__.replace(co_filename=file), globals(), closure=check.__closure__
    )
    monkeypatch.setattr(endpoint, "check_answer", check)
    async with serving({"rooms": plugin(service_configuration=always(ROOM))}) as server:
        await named(server, "the server", line=f"{file}:{LINE}")
