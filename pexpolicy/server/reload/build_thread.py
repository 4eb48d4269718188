"""Threads for work that would block the event loop, such as building a policy."""

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
SHORT_TURN = 0.0005
"""Seconds that a build may keep the interpreter while a call waits for it; 0.005 is usual."""


async def run_in_thread(work: Callable[[], T], name: str) -> T:
    """Run in a thread of its own; raises what the work raises.

    The thread is not waited for when the caller is cancelled, nor when the program ends.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            outcome.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(outcome)


async def run_in_build_thread(build: Callable[[], T]) -> T:
    """Build something while calls are answered; otherwise like ``run_in_thread``."""
    with _gentle():
        return await run_in_thread(build, "pexpolicy-build")


@contextmanager
def _gentle() -> Iterator[None]:
    """Shorten turns and stop the collector: what is being built is no garbage, and one look at
    100,000 rooms would hold up every call.
    """
    turn = sys.getswitchinterval()
    sys.setswitchinterval(SHORT_TURN)
    try:
        with gc_tuning.paused():
            yield
    finally:
        sys.setswitchinterval(turn)
