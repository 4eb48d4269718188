"""Work beside the event loop: a policy is built while calls are answered."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from pexpolicy import gc_tuning

T = TypeVar("T")
SHORT_TURN = 0.0005
"""Seconds that the work may keep the interpreter while a call waits for it; 0.005 is usual."""


async def aside(work: Callable[[], T]) -> T:
    """Do something in a thread of its own; raises what it raises.

    Nobody waits for the thread when the caller is cancelled, nor when the program ends.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            outcome.set_exception(error)

    with _gentle():
        threading.Thread(target=run, name="pexpolicy-aside", daemon=True).start()
        return await asyncio.wrap_future(outcome)


@contextmanager
def _gentle() -> Iterator[None]:
    """Short turns, and no collector: what is being built is no garbage, and one look at 100,000
    rooms would hold up every call.
    """
    turn = sys.getswitchinterval()
    sys.setswitchinterval(SHORT_TURN)
    try:
        with gc_tuning.paused():
            yield
    finally:
        sys.setswitchinterval(turn)
