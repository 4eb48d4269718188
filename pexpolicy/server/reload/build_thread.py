"""The build thread, in which a policy is built while calls are answered."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from pexpolicy.server import gc_tuning

T = TypeVar("T")
SWITCH_INTERVAL_S = 0.0005
"""Thread switch interval during a build, so that calls wait less; Python's default is 0.005."""


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


async def run_in_build_thread(build: Callable[[], T]) -> T:
    """Run ``build`` as ``run_in_thread`` does, with little delay for calls."""
    with _low_priority():
        return await run_in_thread(build, "pexpolicy-build")


@contextmanager
def _low_priority() -> Iterator[None]:
    """Shorten the thread switch interval and disable the garbage collector.

    A collection that traverses 100,000 new rooms would delay every call.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with gc_tuning.paused():
            yield
    finally:
        sys.setswitchinterval(interval)
