"""The event loop of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pexpolicy.faults import blame
from pexpolicy.hidden import hide
from pexpolicy.logs import console_log

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
        while not task.done():
            try:
                loop.run_until_complete(task)
            except RuntimeError:
                # A plugin that stops the loop must not stop the server.
                if task.done():
                    raise
            except (SystemExit, KeyboardInterrupt) as error:
                if task.done() or not serving:
                    raise
                console_log().warning(
                    "a task or callback that a plugin left behind failed",
                    error=blame(error).summary,
                )
        return task.result()
