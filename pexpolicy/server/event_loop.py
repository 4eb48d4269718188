"""The event loop of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from pexpolicy.errors import describe_error
from pexpolicy.log import console_log
from pexpolicy.tasks import hide

T = TypeVar("T")


def run(main_coroutine: Coroutine[Any, Any, T], *, serving: bool = False) -> T:
    """Run on an event loop. A server runs on uvloop where that is installed, and goes on whatever
    the tasks raise that plugins left behind.
    """
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if serving:
        try:
            from uvloop import new_event_loop as factory  # noqa: PLC0415 - an extra
        except ImportError:
            factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main_coroutine)
        if serving:
            hide(task)
            _run_server(loop, task)
        while not task.done():
            with suppress(RuntimeError):  # a plugin that stops the loop does not stop a command
                loop.run_until_complete(task)
        return task.result()


def _run_server(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Run the event loop until a hidden task has ended, whatever plugins do to the loop."""
    root: asyncio.Task[None] | None = None
    while not task.done():
        if root is None or root.done():
            root = loop.create_task(_ended(task))
        try:
            loop.run_until_complete(root)
        except asyncio.CancelledError:
            continue  # a plugin cancelled every task that it found
        except RuntimeError:
            if root.done():  # else a plugin stopped the loop
                raise
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                return
            console_log().warning(
                "a task or callback that a plugin left behind failed",
                error=describe_error(error).summary,
            )


async def _ended(task: asyncio.Task[Any]) -> None:
    """Wait for a task that is hidden, in its place among all tasks.

    Libraries look there for the task that lasts as long as the event loop: anyio keeps its threads
    for as long.
    """
    await asyncio.wait((task,))
