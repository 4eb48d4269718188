"""The thread pool of a plugin, for hooks that block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any


class PluginBusyError(Exception):
    """All threads of the plugin are taken by calls that have not returned.

    For a plugin in processes of its own: all its workers are taken, and too many calls wait.
    """


class PluginThreadPool:
    """The threads of one plugin: ``size`` calls run at once, a further one is rejected immediately.

    A stuck plugin fills its own threads only.
    """

    def __init__(self, plugin: str, size: int) -> None:
        self._size = size
        self._running = 0
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=f"plugin-{plugin}")

    async def run(self, call: Callable[[Any], Any], request: Any) -> Any:
        """Call in a thread; raise ``PluginBusyError`` when none is free.

        A call that is abandoned keeps its thread until it returns.
        """
        if self._running >= self._size:
            msg = f"its threads ({self._size}) are all taken by calls that have not returned"
            raise PluginBusyError(msg)
        self._running += 1
        loop = asyncio.get_running_loop()
        future = self._pool.submit(copy_context().run, _outcome, call, request)
        future.add_done_callback(lambda _: self._on_return(loop))
        answer, error = await asyncio.wrap_future(future)
        if error is not None:
            raise error
        return answer

    def _on_return(self, loop: asyncio.AbstractEventLoop) -> None:
        """Free the thread, unless the loop has ended before the call returned."""
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._free)

    def _free(self) -> None:
        self._running -= 1

    @property
    def stuck(self) -> bool:
        """True while calls have not returned."""
        return self._running > 0

    def close(self) -> None:
        """Stop accepting calls, and do not wait for blocked threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _outcome(call: Callable[[Any], Any], request: Any) -> tuple[Any, BaseException | None]:
    """Return an exception as a value.

    A future refuses StopIteration, and a thread must not end by SystemExit.
    """
    try:
        return call(request), None
    except BaseException as error:  # noqa: BLE001 - it is raised again where the answer is awaited
        return None, error
