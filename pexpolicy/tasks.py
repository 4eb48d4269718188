"""Background tasks of the server, hidden from plugins that cancel every task they find."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
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
