"""The thread pool of a plugin, for hooks that block."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

LONG_S = 0.1
"""Duration of a call that ``PluginThreadPool.calls`` still returns after its end."""


class PluginBusyError(Exception):
    """All threads of the plugin are taken by calls that have not returned.

    For a plugin in processes of its own: all its workers are taken, and too many calls wait.
    """


class ThreadCall:
    """A call of a hook in a thread: when it began and ended (monotonic), and the processor time of
    the thread in seconds at both times. ``ended`` is unset while it runs.
    """

    __slots__ = ("began", "cpu", "cpu_at_end", "ended", "hook", "native_id", "thread")

    def __init__(self, hook: str) -> None:
        self.hook = hook
        self.thread = threading.get_ident()
        self.native_id = threading.get_native_id()
        self.began = time.monotonic()
        self.cpu = time.thread_time()
        self.ended: float | None = None
        self.cpu_at_end = 0.0


class PluginThreadPool:
    """The threads of one plugin: ``size`` calls run at once, a further one is rejected immediately.

    A stuck plugin fills its own threads only.
    """

    def __init__(self, plugin: str, size: int) -> None:
        self._size = size
        self._futures: set[Future[Any]] = set()
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=f"plugin-{plugin}")
        self._calls: set[ThreadCall] = set()
        self._ended: deque[ThreadCall] = deque(maxlen=size)

    async def run(self, call: Callable[[Any], Any], request: Any, hook: str = "") -> Any:
        """Call ``hook`` in a thread; raise ``PluginBusyError`` when none is free.

        A call that is abandoned keeps its thread until it returns.
        """
        if len(self._futures) >= self._size:
            msg = f"its threads ({self._size}) are all taken by calls that have not returned"
            raise PluginBusyError(msg)
        calls = [call]
        try:
            future = self._pool.submit(copy_context().run, self._outcome, hook, calls, request)
        except RuntimeError:
            # The process cannot start another thread. The pool keeps the call for one that it has.
            calls.clear()
            raise
        self._futures.add(future)
        # It runs before the answer is seen, and for a call that is cancelled before it began.
        future.add_done_callback(self._futures.discard)
        answer, error = await asyncio.wrap_future(future)
        if error is not None:
            raise error
        return answer

    @property
    def stuck(self) -> bool:
        """True while calls have not returned."""
        return bool(self._futures)

    @property
    def calls(self) -> list[ThreadCall]:
        """The running calls, and the last long ones that have ended. Safe in any thread."""
        return [*self._calls.copy(), *self._ended.copy()]

    def close(self) -> None:
        """Stop accepting calls, and do not wait for blocked threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _outcome(
        self, hook: str, calls: list[Callable[[Any], Any]], request: Any
    ) -> tuple[Any, BaseException | None]:
        """Return an exception as a value; do nothing for a call that was given up.

        A future refuses StopIteration, and a thread must not end by SystemExit.
        """
        if not calls:
            return None, None
        this = ThreadCall(hook)
        self._calls.add(this)
        try:
            return calls[0](request), None
        except BaseException as error:  # noqa: BLE001 - it is raised again where the answer is awaited
            return None, error
        finally:
            now = time.monotonic()
            if now - this.began > LONG_S:
                this.ended, this.cpu_at_end = now, time.thread_time()
                self._ended.append(this)
            self._calls.discard(this)
