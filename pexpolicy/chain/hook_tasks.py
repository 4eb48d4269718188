"""The asyncio tasks that hooks run in, and the threads of plugins whose hooks block."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from traceback import walk_stack
from types import FrameType
from typing import Any, Literal, Protocol

from pexpolicy.tasks import end_tasks, hide

MAX_WAITING = 32
"""Calls of one plugin that wait for a thread or a process."""

Names = tuple[str, str]
"""Plugin and hook."""
SERVER = ("the server", "")
EAGER = sys.version_info >= (3, 12)
"""True where a task takes its first step while it is created. A hook that never waits has ended
before the event loop schedules its task.
"""


class Work(Protocol):
    """Something to run in a task, and the owner of its code."""

    @property
    def names(self) -> Names:
        """The plugin and the hook whose code runs."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Run to the end; raises nothing that a plugin raises."""


class HookTasks:
    """The tasks of one policy. Build it on its event loop; ``close`` ends abandoned tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._starting: Work | None = None
        self._waiting: dict[asyncio.Task[None], Work] = {}
        self._abandoned: dict[asyncio.Task[None], Names] = {}

    @property
    def running(self) -> Names:
        """The plugin and the hook whose code is running. Safe in any thread."""
        work = self._starting
        if work is None:
            task: Any = asyncio.current_task(self._loop)
            if (names := self._abandoned.get(task)) is not None:
                return names
            work = self._waiting.get(task)
        return SERVER if work is None else work.names

    @property
    def abandoned(self) -> list[str]:
        """The hooks that were abandoned and have not ended yet."""
        return sorted(f"{plugin}.{hook}" for plugin, hook in self._abandoned.values())

    def start(self, work: Work) -> asyncio.Task[None]:
        """Run ``work`` in a new task.

        Where tasks are eager, it has taken its first step on return. ``wait`` has to be awaited
        next, unless it has ended.
        """
        if sys.version_info >= (3, 12):
            self._starting = work
            try:
                task = asyncio.Task(work.run(), loop=self._loop, eager_start=True)
            finally:
                self._starting = None
        else:
            task = asyncio.Task(work.run(), loop=self._loop)
        if not task.done():
            self._waiting[task] = work
        return task

    async def run(self, work: Work, timeout: float) -> bool:  # noqa: ASYNC109 - work never raises
        """Run ``work`` in a new task; false if it was abandoned after ``timeout`` seconds."""
        task = self.start(work)
        if not task.done():
            await self.wait(task, work, lambda: timeout)
        return task.done()

    async def wait(
        self, task: asyncio.Task[None], work: Work, seconds_left: Callable[[], float]
    ) -> None:
        """Wait for the task of ``work`` until its time is over; then abandon it.

        Where tasks are not eager, it takes its first step first, however long that is.
        """
        try:
            if not EAGER:
                await asyncio.sleep(0)
                if task.done():
                    return
            await asyncio.wait((task,), timeout=max(seconds_left(), 0.0))
        finally:
            del self._waiting[task]
            if not task.done():
                # Not waited for; plugin and hook are remembered until it has ended.
                self._abandoned[task] = work.names
                task.add_done_callback(self._abandoned.pop)
                # On closing, the event loop would wait for it, and it may never end.
                hide(task)
                task.cancel()

    async def close(self) -> None:
        """Cancel the abandoned tasks again, and wait up to 0.2 s for them."""
        await end_tasks(self._abandoned, 0.2)


class PluginBusyError(Exception):
    """All threads or processes of the plugin are taken, and too many calls wait for one."""


class CallQueue(asyncio.Semaphore):
    """A place for each of ``free`` calls; ``most`` others wait in their order."""

    def __init__(self, free: int, most: int = MAX_WAITING) -> None:
        super().__init__(free)
        self.waiting = 0
        self._most = most

    @property
    def is_full(self) -> bool:
        """True where a further call must not wait."""
        return self.locked() and self.waiting >= self._most

    async def acquire(self) -> Literal[True]:
        """Wait for a place."""
        self.waiting += 1
        try:
            return await super().acquire()
        finally:
            self.waiting -= 1


class PluginThreadPool:
    """The threads of one plugin: ``size`` calls run at once, and further ones wait.

    A stuck plugin fills its own threads only.
    """

    def __init__(self, plugin: str, size: int) -> None:
        self._size = size
        self._queue = CallQueue(size)
        self.running: dict[Future[Any], list[int]] = {}
        """The calls that have not returned, the oldest first, and the thread of each."""
        self._pool = ThreadPoolExecutor(size, thread_name_prefix=f"plugin-{plugin}")

    async def run(self, call: Callable[[Any], Any], request: Any) -> Any:
        """Call a hook in a thread; raise ``PluginBusyError`` when too many calls wait for one.

        A call that is abandoned keeps its thread until it returns.
        """
        if self._queue.is_full:
            msg = f"its threads ({self._size}) are all taken by calls that have not returned"
            raise PluginBusyError(msg)
        await self._queue.acquire()
        thread: list[int] = []
        try:
            future = self._pool.submit(copy_context().run, _outcome, call, request, thread)
        except BaseException:
            self._queue.release()
            raise
        self.running[future] = thread
        loop = asyncio.get_running_loop()

        def returned(_: object) -> None:
            del self.running[future]
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._queue.release)

        # It runs before the answer is seen, and for a call that is cancelled before it began.
        future.add_done_callback(returned)
        answer, error = await asyncio.wrap_future(future)
        if error is not None:
            raise error
        return answer

    def close(self) -> None:
        """Stop accepting calls, and do not wait for blocked threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def thread_frames(thread: list[int]) -> list[tuple[FrameType, int]]:
    """Return the frames of a thread with their lines, the outermost first; none if it has ended."""
    frame = sys._current_frames().get(thread[0]) if thread else None  # noqa: SLF001 - documented
    return [] if frame is None else [*walk_stack(frame)][::-1]


def waiting_frames(task: asyncio.Task[None]) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames of a task that waits, and then those of the thread that it waits for.

    A call that waits for a thread waits for the oldest call.
    """
    awaited: Any = task.get_coro()
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        yield frame, frame.f_lineno
        if frame.f_code is PluginThreadPool.run.__code__:
            pool, thread = frame.f_locals["self"], frame.f_locals.get("thread")
            yield from thread_frames(thread or next(iter(list(pool.running.values())), []))
        awaited = awaited.cr_await


def _outcome(
    call: Callable[[Any], Any], request: Any, thread: list[int]
) -> tuple[Any, BaseException | None]:
    """Return an exception as a value, and note the thread.

    A future refuses StopIteration, and a thread must not end by SystemExit.
    """
    thread.append(threading.get_ident())
    try:
        return call(request), None
    except BaseException as error:  # noqa: BLE001 - it is raised again where the answer is awaited
        return None, error
