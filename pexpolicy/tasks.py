"""Keeping the server's own tasks from plugins that cancel whatever they find."""

from __future__ import annotations

import asyncio
from typing import Any


def hide(task: asyncio.Task[Any] | None) -> None:
    """Take a task off the list of ``asyncio.all_tasks()``; it runs on as before.

    Whoever hides a task ends it: the event loop does not cancel it when it closes. The function
    that asyncio offers for this is documented ("Extending: Task lifetime support").
    """
    if task is not None:
        asyncio._unregister_task(task)  # noqa: SLF001 - documented
