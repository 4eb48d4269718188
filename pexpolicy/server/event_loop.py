"""The event loop of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from pexpolicy.errors import describe_error
from pexpolicy.log import ServerLog
from pexpolicy.tasks import hide

T = TypeVar("T")


def run(main_coroutine: Coroutine[Any, Any, T], *, serving: bool = False) -> T:
    """Run a coroutine on a new event loop.

    A server uses uvloop if it is installed, and survives ``SystemExit`` and ``KeyboardInterrupt``
    in tasks of plugins.
    """
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if serving:
        try:
            from uvloop import new_event_loop as factory  # noqa: PLC0415 - an optional dependency
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
    """Run the event loop until a hidden task has ended, even if a plugin stops the loop."""
    root: asyncio.Task[None] | None = None
    while not task.done():
        if root is None or root.done():
            root = loop.create_task(_wait_for(task))
        try:
            loop.run_until_complete(root)
        except asyncio.CancelledError:
            continue  # a plugin cancelled all tasks that it found
        except RuntimeError:
            if root.done():  # otherwise a plugin stopped the loop
                raise
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                return
            log = ServerLog()
            log.output.never_wait()
            log.warning(
                "a task or callback of a plugin failed",
                error=describe_error(error).summary,
            )


async def _wait_for(task: asyncio.Task[Any]) -> None:
    """Wait for a hidden task, in a task that libraries can find.

    Some search all tasks for the one that lasts as long as the event loop: anyio ties its worker
    threads to it.
    """
    await asyncio.wait((task,))
