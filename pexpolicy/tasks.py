"""Background tasks of the server, hidden from plugins that cancel every task they find."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
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


async def end_tasks(tasks: Iterable[asyncio.Task[Any] | None], seconds: float) -> bool:
    """Cancel tasks, and wait up to ``seconds``; false if one has not ended.

    Such a task is hidden: on closing, the event loop would wait for it, and it may never end.
    """
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    pending = (await asyncio.wait(running, timeout=seconds))[1] if running else set()
    for task in pending:
        hide(task)
    return not pending


def start_thread(work: Callable[[], T], name: str) -> Future[T]:
    """Run ``work`` in a new thread, a daemon; its result, or its exception, is in the future."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where its result is wanted
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


async def run_in_thread(work: Callable[[], T], name: str) -> T:
    """Run ``work`` in a new thread and return its result, or raise its exception.

    The thread is not waited for if the caller is cancelled.
    """
    return await asyncio.wrap_future(start_thread(work, name))


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
