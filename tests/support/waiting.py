"""Waiting for a condition, with a limit that only ends a test that hangs."""

import asyncio
import inspect
import time
from collections.abc import Callable
from contextlib import suppress

HANG_S = 300.0
"""Seconds after which a test counts as hanging: a slow or busy machine takes far less."""


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as `condition` holds."""
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.005)


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop run until `condition`, which may be a coroutine function, holds."""
    async with asyncio.timeout(HANG_S):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await asyncio.sleep(0.005)


async def wait_stubbornly(released: asyncio.Event) -> None:
    """Wait for an event and ignore each cancellation."""
    while not released.is_set():
        with suppress(asyncio.CancelledError):
            await released.wait()
