"""The tasks and threads that hooks run in, and the watchdog of the event loop they share."""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from traceback import walk_stack
from types import FrameType
from typing import Any, Literal, Protocol, Self

from pexpolicy.errors import PACKAGE_ROOT, Log
from pexpolicy.tasks import end_tasks, hide

MAX_WAITING = 32
"""Calls of one plugin that wait for a thread or a process."""

Names = tuple[str, str]
"""Plugin and hook."""
SERVER = ("the server", "")
EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}
"""Where Python can, a task takes its first step while it is created."""


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

    def start(self, work: Work, *, may_wait: bool = True) -> asyncio.Task[None] | None:
        """Run ``work`` in a new task; return ``None`` if it has ended, else await ``wait`` next.

        Where tasks are eager, it takes its first step now; work that never waits ends in any case.
        """
        self._starting = work
        try:
            if not (EAGER or may_wait):
                self._run_through(work)
                return None
            task = asyncio.Task(work.run(), loop=self._loop, **EAGER)
        finally:
            self._starting = None
        if task.done():
            return None if task.cancelled() else task.result()
        self._waiting[task] = work
        return task

    def _run_through(self, work: Work) -> None:
        """Run work that never waits, with a future as the current task.

        In a task it would wait for another turn of the event loop (a call without: 0.90, paired).
        """
        task: Any = _Current(loop=self._loop)
        caller: Any = asyncio.current_task(self._loop)
        asyncio.tasks._leave_task(self._loop, caller)  # noqa: SLF001 - documented, as the next one
        asyncio.tasks._enter_task(self._loop, task)  # noqa: SLF001
        try:
            copy_context().run(work.run().send, None)
        except StopIteration:
            if not task.done():
                task.set_result(None)
            return
        finally:
            asyncio.tasks._leave_task(self._loop, task)  # noqa: SLF001
            asyncio.tasks._enter_task(self._loop, caller)  # noqa: SLF001
        raise RuntimeError("work that never waits has waited")

    async def run(self, work: Work, timeout: float) -> bool:  # noqa: ASYNC109 - work never raises
        """Run ``work`` in a new task; false if it was abandoned after ``timeout`` seconds."""
        task = self.start(work)
        if task is not None:
            await self.wait(task, work, lambda: timeout)
        return task is None or task.done()

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


class _Current(asyncio.Future[None]):
    """What a hook that never waits finds as the current task before Python 3.12."""

    def get_name(self) -> str:
        return "hook"


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


HEARTBEAT_S = 0.05
"""Pause after a heartbeat."""
REPORT_AFTER_S = 0.1
"""Delay of a heartbeat that is reported."""
STILL_HELD_AFTER_S = 1.0
"""Time after that, at which a loop that is still held is reported before it is released."""
_IDLE = (os.path.dirname(asyncio.__file__), selectors.__file__)  # noqa: PTH120 - compared with names
"""The beginning of the file names of an event loop that waits."""


class Watchdog:
    """Names the plugin and the line that hold the loop longer than ``REPORT_AFTER_S``. Enter it on
    that loop. ``modules`` maps the modules of plugin classes to plugin names.

    Code that blocks in an ``async def`` stops every call of the process, and nothing in the process
    can interrupt it. A thread asks the loop for a heartbeat again and again; if none comes, it
    reads the stack of the loop's thread.

    A call into C code that keeps the interpreter lock, such as ``re`` with a slow pattern, stops
    this thread too; it is named afterwards where its hook still runs. ``faulthandler`` could print
    the stacks before, but it reads frames that may be changing then, and can crash the server.
    """

    def __init__(self, tasks: HookTasks, log: Log, modules: Mapping[str, str]) -> None:
        self._tasks = tasks
        self._log = log
        self._modules = modules
        self._stopped = threading.Event()
        self._loop_thread = threading.get_ident()

    def __enter__(self) -> Self:
        name, loop = "pexpolicy-watchdog", asyncio.get_running_loop()
        threading.Thread(target=self._watch, args=(loop,), name=name, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        released_at = time.monotonic()
        while not self._stopped.wait(HEARTBEAT_S):
            beat = threading.Event()
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(beat.set)
            # Code that keeps the interpreter lock keeps this thread from running, too.
            is_late = time.monotonic() - released_at > HEARTBEAT_S + REPORT_AFTER_S
            if (is_late or not beat.wait(REPORT_AFTER_S)) and not self._stopped.is_set():
                self._report(beat, released_at)
            released_at = time.monotonic()

    def _report(self, beat: threading.Event, since: float) -> None:
        """Read the stack of the loop, wait until it is released, and log both."""
        names, line = self._owner()
        if not line:
            return  # no code holds it: the machine is busy
        if not beat.wait(STILL_HELD_AFTER_S):
            what = "holds the event loop, and has not released it yet"
            self._log_hold(names, line, since, what)
            beat.wait()
        self._log_hold(names, line, since, "held the event loop")

    def _owner(self) -> tuple[Names, str]:
        """Return the owner of the code that the loop's thread runs, and the line.

        It is the hook that runs, or the plugin whose module is on the stack. No line: none runs.
        """
        frames = [frame for frame, _ in thread_frames([self._loop_thread])][::-1]
        running = self._tasks.running
        if not frames or (running == SERVER and _is_in(_IDLE, frames[0])):
            return SERVER, ""
        if running == SERVER:
            owners = (self._modules.get(str(one.f_globals.get("__name__"))) for one in frames)
            running = next(((owner, "") for owner in owners if owner), SERVER)
        elif _is_in(PACKAGE_ROOT, frames[0]):
            running = SERVER  # such as a check of the answer of the hook
        if running != SERVER:
            ours = (PACKAGE_ROOT, *_IDLE)
            frames = [frame for frame in frames if not _is_in(ours, frame)] or frames
        return running, f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}"

    def _log_hold(self, names: Names, line: str, since: float, what: str) -> None:
        (plugin, hook), ms = names, round((time.monotonic() - since) * 1000)
        self._log.warning(f"{plugin} {what}", plugin=plugin, hook=hook, ms=ms, line=line)


def _is_in(beginnings: str | tuple[str, ...], frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(beginnings)
