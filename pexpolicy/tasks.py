"""Background tasks of the server, hidden from plugins that cancel every task they find."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

T = TypeVar("T")


def start_background(
    coroutine: Coroutine[Any, Any, T], running: set[asyncio.Task[T]]
) -> asyncio.Task[T]:
    """Run a coroutine in a hidden task of its own; ``running`` holds the task until it is done."""
    task = asyncio.get_running_loop().create_task(coroutine)
    hide(task)
    running.add(task)
    task.add_done_callback(running.discard)
    return task


def hide(task: asyncio.Task[Any] | None) -> None:
    """Remove a task from ``asyncio.all_tasks()``; it runs on as before.

    The caller has to end it: the event loop does not cancel it on closing. The function that
    asyncio offers for this is documented ("Extending: Task lifetime support").
    """
    if task is not None:
        asyncio._unregister_task(task)  # noqa: SLF001 - documented


async def run_in_thread(work: Callable[[], T], name: str) -> T:
    """Run ``work`` in a new thread and return its result, or raise its exception.

    The thread is a daemon and is not waited for if the caller is cancelled.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised in the waiting task
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(future)


class Failure:
    """An exception as a value: ``SystemExit`` raised in a task would end the event loop."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def capture(function: Callable[[], Awaitable[T]]) -> T | Failure:
    """Return what a coroutine function of a plugin returns, or what it raises."""
    try:
        return await function()
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
        return Failure(error)


class ContextTask:
    """An asynchronous context manager that is entered and left in a task of its own.

    A task group or cancel scope must be left by the task that entered it, and cancels only this
    task when it fails. ``on_failure`` is called with the exception that ended the context early, or
    that leaving it raised. Times in seconds.
    """

    def __init__(
        self,
        context: AbstractAsyncContextManager[object],
        on_failure: Callable[[BaseException], None],
        start_timeout: float,
        stop_timeout: float,
    ) -> None:
        self._context = context
        self._on_failure = on_failure
        self._start_timeout, self._stop_timeout = start_timeout, stop_timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Enter the context; raises what entering it raises, and ``TimeoutError``."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._task = self._loop.create_task(self._run(opened))
        hide(self._task)
        try:
            await asyncio.wait((opened,))
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait((self._task,))
            raise
        if (error := opened.result()) is not None:
            raise error

    async def close(self) -> None:
        """Leave the context."""
        if self._task is not None:
            self._closing.set()
            await asyncio.wait((self._task,))

    def close_soon(self) -> None:
        """Leave the context without waiting for it. Safe in any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._closing.set)

    async def _run(self, opened: asyncio.Future[BaseException | None]) -> None:
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._context.__aenter__()
        except BaseException as error:  # noqa: BLE001 - it is raised where the opening is awaited
            opened.set_result(error)
            return
        opened.set_result(None)
        ended: BaseException | None = None
        try:
            await self._closing.wait()
        except BaseException as error:  # noqa: BLE001 - a task group in the context cancels this task
            ended = error
        try:
            async with asyncio.timeout(self._stop_timeout):
                await self._context.__aexit__(
                    type(ended) if ended is not None else None,
                    ended,
                    ended.__traceback__ if ended is not None else None,
                )
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            ended = error
        if ended is not None:
            self._on_failure(ended)
