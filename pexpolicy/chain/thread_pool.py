"""Threads for hooks that block: each plugin has its own, so a stuck one fills only its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any


class PluginBusyError(Exception):
    """All threads of the plugin are taken by calls that have not come back; or all its workers are,
    where it has processes of its own, and too many calls wait for one.
    """


class PluginThreadPool:
    """The threads of one plugin; ``size`` calls run at once, a further one is refused at once."""

    def __init__(self, plugin: str, size: int) -> None:
        self._size = size
        self._running = 0
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=f"plugin-{plugin}")

    async def run(self, call: Callable[[Any], Any], request: Any) -> Any:
        """Call in a thread; raises ``PluginBusyError`` when none is free.

        A call that is given up keeps its thread until it comes back.
        """
        if self._running >= self._size:
            msg = f"its threads ({self._size}) are all taken by calls that have not come back"
            raise PluginBusyError(msg)
        self._running += 1
        loop = asyncio.get_running_loop()
        future = self._pool.submit(copy_context().run, _outcome, call, request)
        future.add_done_callback(lambda _: self._back(loop))
        answer, error = await asyncio.wrap_future(future)
        if error is not None:
            raise error
        return answer

    def _back(self, loop: asyncio.AbstractEventLoop) -> None:
        """Free the thread, unless the loop has ended before it came back."""
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._free)

    def _free(self) -> None:
        self._running -= 1

    @property
    def stuck(self) -> bool:
        """True while calls have not come back."""
        return self._running > 0

    def close(self) -> None:
        """Take no more calls; threads that are stuck are left behind."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _outcome(call: Callable[[Any], Any], request: Any) -> tuple[Any, BaseException | None]:
    """An exception as a value: a future refuses StopIteration, and a thread must not end by
    SystemExit.
    """
    try:
        return call(request), None
    except BaseException as error:  # noqa: BLE001 - it is raised again where the answer is awaited
        return None, error
